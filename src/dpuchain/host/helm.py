"""The one door to Helm: its command, with a home of its own, so that nobody's repositories and settings are read or changed."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec

from dpuchain.chain.release import Release

Access = bytes | Path | None
"""How Helm reaches a cluster: the content of a kubeconfig, its file, or (None) as the pod that we are."""
FIELD_MANAGER = "helm"
"""The name by which we call Helm, whatever its file is called: Helm takes it for that of the manager of all fields that it sets."""
TETHER = Path(__file__).with_name("tether.py")
COMMAND_SECONDS = 300.0
FOLDERS = "dpuchain-helm-"
"""How the names of our temporary folders begin."""
RUNS, SHARE = 8, 2
"""Commands that run at once, and those of them that are for one cluster or one repository: one that hangs leaves turns to the others."""
SHORTEST = 4
"""Characters of a secret at least; a shorter text is too common to be taken out of a sentence."""
LONGEST = 600
"""Characters of Helm's words that are told."""
NO_CHART = re.compile(
    r"chart .* not found in|no chart (version|name) found|chart repository or cannot be reached|failed to (fetch|download|perform)"
)
"""What Helm says when it cannot get a chart."""
KUBECONFIG_SECRET = re.compile(r"""(?:token|password|client-key-data)["']?\s*:\s*["']?([^\s"',}]{4,})""")
SECRET_VALUE = re.compile(r"(?:password|passwd|passphrase|token|credentials?|(?:private|api|secret|access)[-_]?key)$", re.IGNORECASE)
"""How the last key of a secret among a chart's values is called; one that names a Secret is not meant."""
URL_SECRET = re.compile(r"""(://)[^/\s"']+@|([?&][^=\s&"']+=)[^&\s"']+""")


class HelmError(Exception):
    """Helm did not do it; the message has Helm's own words, shortened and without credentials, and, where one is known, a remedy."""


class Helm:
    """Installs and removes releases. `mirrors` maps repository URLs to the URLs that charts are fetched from instead.

    `host` is how the host cluster is reached, for services that are deployed there.
    """

    def __init__(self, program: str, mirrors: Mapping[str, str], host: Access = None) -> None:
        self.host = host
        self._program = program
        self._mirrors = {source.rstrip("/"): target for source, target in mirrors.items()}
        self._turns = _Turns()

    async def install(self, access: Access, release: Release, labels: Mapping[str, str]) -> None:
        """Install or upgrade a release; it has `labels` on its record afterwards. HelmError if that is not possible."""
        repository = self._mirrors.get(release.repo_url.rstrip("/"), release.repo_url)
        if not repository:
            chart = [release.chart]
        elif repository.startswith("oci://"):
            chart = [f"{repository.rstrip('/')}/{release.chart}" if release.chart else repository]
        else:
            chart = [release.chart, "--repo", repository]
        marks = ",".join(f"{key}={value}" for key, value in labels.items())
        where = ["--namespace", release.namespace, "--create-namespace"]
        options = ["--version", release.version, *where, "--labels", marks, "--values", "-", "--history-max", "3"]
        command = ["upgrade", "--install", release.name, *chart, *options]
        secrets = {*_credentials(access), *_passwords(release.repo_url, repository), *_secret_values(release.values)}
        async with self._turns.take(access, *([repository] if repository else [])):
            said = await self._run(access, command, msgspec.json.encode(release.values))
        if said is None:
            return
        text = said
        if NO_CHART.search(said):
            what = f"chart {release.chart or repository} {release.version} cannot be had from {release.repo_url}"
            text = f"{what}: {_shortened(said)}; check spec.helmChart.source"
        raise HelmError(_shortened(without_credentials(text, secrets)))

    async def uninstall(self, access: Access, namespace: str, name: str) -> None:
        """Remove a release; one that is not there is fine. HelmError if that is not possible."""
        async with self._turns.take(access):
            said = await self._run(access, ["uninstall", name, "--namespace", namespace, "--ignore-not-found"], b"")
        if said is not None:
            raise HelmError(_shortened(without_credentials(said, _credentials(access))))

    async def _run(self, access: Access, arguments: list[str], stdin: bytes) -> str | None:
        """Run one command, which ends with us at the latest; returns what it says if it fails."""
        program = shutil.which(self._program)
        if program is None:
            raise HelmError(f"{self._program} cannot be run (no such program); install Helm 3 and name it with --helm")
        tether = [sys.executable, "-IS", str(TETHER), str(os.getpid()), program, FIELD_MANAGER]
        async with _home(access) as environment:
            child = await asyncio.create_subprocess_exec(
                *tether,
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env=environment,
            )
            try:
                async with asyncio.timeout(COMMAND_SECONDS):
                    _, said = await child.communicate(stdin)
            except TimeoutError as error:
                raise HelmError(f"helm {arguments[0]} took longer than {COMMAND_SECONDS:.0f} s") from error
            finally:
                if child.returncode is None:
                    child.kill()
                    await child.wait()
        if not child.returncode:
            return None
        lines = [line for line in said.decode(errors="replace").splitlines() if line.strip() and not line.startswith("WARNING")]
        return " ".join(lines).removeprefix("Error: ") or f"helm {arguments[0]} exited with {child.returncode}"


class _Turns:
    """Who may run: `RUNS` at once, of which `SHARE` for each party."""

    def __init__(self) -> None:
        self._running: Counter[Hashable] = Counter()
        self._commands = 0
        self._freed = asyncio.Event()

    @contextlib.asynccontextmanager
    async def take(self, *parties: Hashable) -> AsyncIterator[None]:
        """Wait for a turn that none of the parties has had too many of, and hold it."""
        while self._commands >= RUNS or any(self._running[party] >= SHARE for party in parties):
            await self._freed.wait()
        self._commands += 1
        self._running.update(parties)
        try:
            yield
        finally:
            self._commands -= 1
            self._running -= Counter(parties)  # which drops those that are at nought
            self._freed.set()
            self._freed = asyncio.Event()


def without_credentials(text: str, secrets: Iterable[str]) -> str:
    """`text` without these secrets, and without what a URL has before its host or in its query."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return URL_SECRET.sub(lambda found: f"{found[1]}***@" if found[1] else f"{found[2]}***", text)


def _credentials(access: Access) -> set[str]:
    """The secrets of a kubeconfig, however it is written."""
    if access is None:
        return set()
    try:
        content = access if isinstance(access, bytes) else access.read_bytes()
    except OSError:  # Helm will say so in its own words
        return set()
    return set(KUBECONFIG_SECRET.findall(content.decode(errors="replace")))


def _passwords(*urls: str) -> Iterator[str]:
    for url in urls:
        user, _, _ = url.partition("://")[2].partition("/")[0].rpartition("@")
        password = user.partition(":")[2]
        yield from {password, unquote(password)} - {""}


def _secret_values(values: Any) -> Iterator[str]:
    """What of a chart's values is a secret by the name of its key, as an API server's refusal repeats what it was given."""
    entries = values.items() if isinstance(values, Mapping) else enumerate(values) if isinstance(values, list | tuple) else ()
    for key, value in entries:
        if isinstance(value, str) and len(value) >= SHORTEST and SECRET_VALUE.search(str(key)):
            yield value
        yield from _secret_values(value)


def _shortened(text: str) -> str:
    """`text`, or its beginning and its end, where the cause is."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder that nobody else can read and that goes with the context; if this process is killed, with the next such folder of any other.

    Who uses one holds its lock. Another may take it for abandoned between its making and its lock: it is made anew then.
    """
    for abandoned in Path(tempfile.gettempdir()).glob(f"{FOLDERS}*"):
        with contextlib.suppress(OSError), _locked(abandoned):
            shutil.rmtree(abandoned)
    with contextlib.ExitStack() as stack:
        path = None
        while path is None:
            made = Path(tempfile.mkdtemp(prefix=FOLDERS))
            with contextlib.suppress(OSError):
                stack.enter_context(_locked(made))
                path = made
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder. OSError if somebody else does, or if it is gone."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        folder.stat()
        yield
    finally:
        os.close(descriptor)


@contextlib.asynccontextmanager
async def _home(access: Access) -> AsyncIterator[dict[str, str]]:
    """The environment of one command: its kubeconfig in a folder of its own."""
    with _folder() as path:
        if isinstance(access, bytes):
            (path / "kubeconfig").write_bytes(access)
        kubeconfig = access.absolute() if isinstance(access, Path) else path / "kubeconfig"
        homes = {f"HELM_{name}_HOME": str(path / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}
        # A kubeconfig that is not there makes Helm look for the pod that it is in, by these variables.
        dropped = ("HELM_", "KUBECONFIG") if access is None else ("HELM_", "KUBE")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        yield {**kept, **homes, "TMPDIR": str(path), "KUBECONFIG": str(kubeconfig)}
