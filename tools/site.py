"""What the documentation site needs beyond mkdocs: links to files of the repository that are no pages, and the README as first page."""

from __future__ import annotations

import logging
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
_LINK = re.compile(r"(?<!!)\[([^\]\n]+)\]\(([^)#\s:]+)(#[^)\s]*)?\)")
_log = logging.getLogger("mkdocs.hooks.site")


def on_files(files: Files, config: Any) -> Files:
    """Take the README as the first page; its links are told from the root of the repository."""
    files.append(File.generated(config, "index.md", content=_LINK.sub(_from_root, (ROOT / "README.md").read_text())))
    return files


def on_page_markdown(markdown: str, page: Any, **_: object) -> str:
    """Show links out of the documentation as the paths of files; one that is not there is a warning, which fails a strict build."""
    folder = (ROOT / "docs" / page.file.src_uri).parent
    return _LINK.sub(lambda found: _outside(found, folder, page.file.src_uri), markdown)


def _from_root(found: re.Match[str]) -> str:
    text, target, anchor = found[1], found[2], found[3] or ""
    return f"[{text}]({target.removeprefix('docs/')}{anchor})" if target.startswith("docs/") else f"[{text}](../{target}{anchor})"


def _outside(found: re.Match[str], folder: Path, page: str) -> str:
    path = (folder / found[2]).resolve()
    if path.is_relative_to(ROOT / "docs") or path == ROOT / "docs":
        return found[0]
    name = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else found[2]
    if name not in _held():
        _log.warning("%s links to %s, which is not in the repository", page, found[2])
    return f"`{name}`" if found[1] == name else f"{found[1]} (`{name}`)"


@cache
def _held() -> set[str]:
    """The files of the repository and their folders; what was built or downloaded is none of them."""
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True)
    paths = [Path(line) for line in files.stdout.splitlines()]
    return {str(part) for path in paths for part in (path, *path.parents)}
