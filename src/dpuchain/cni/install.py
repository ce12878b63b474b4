"""Puts the plugin where the container runtime looks for it.

The runtime runs it on the DPU itself, so it is one file that needs an interpreter there and nothing else of ours.
"""

import os
import tempfile
from pathlib import Path

from dpuchain.cni import plugin

NAME = "dpuchain-cni"


def install(directory: Path, interpreter: str) -> bool:
    """Make `directory` hold the plugin, run by the interpreter of that absolute path; returns whether it did not hold it before.

    A runtime that calls it meanwhile finds the old one or the new one, never half of it. Raises OSError.
    """
    content = f"#!{interpreter} -IS\n{Path(plugin.__file__).read_text()}".encode()
    target = directory / NAME
    if target.is_file() and target.read_bytes() == content and os.access(target, os.X_OK):
        return False
    descriptor, name = tempfile.mkstemp(prefix=f".{NAME}-", dir=directory)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o755)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink()
        raise
    return True
