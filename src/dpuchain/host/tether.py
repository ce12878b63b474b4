"""Becomes another program that is killed when the process that started it ends, even by SIGKILL. Run as a script, never imported.

Usage: `tether.py PARENT PROGRAM ARGUMENT0...`, with the process id of who starts it. The kernel forgets such a wish at a fork and keeps it
at an exec: so the process itself must have it, between the two. A small interpreter of its own says it there, since the interpreter that
forks has threads and may run nothing of its own in the child.
"""

from __future__ import annotations

import ctypes
import os
import sys

SET_PARENT_DEATH_SIGNAL, SIGKILL = 1, 9
"""Numbers of Linux; importing `signal` for one of them would take as long as all the rest."""


def main(parent: str, program: str, *arguments: str) -> None:
    """Become the program. Exits with a message if that is not possible."""
    ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, SIGKILL, 0, 0, 0)
    if os.getppid() != int(parent):  # it ended before we had said so
        sys.exit("the controller has ended")
    try:
        os.execv(program, arguments)  # noqa: S606 - a fixed program, and no shell is wanted
    except OSError as error:
        sys.exit(f"{program} cannot be run: {error.strerror}")


if __name__ == "__main__":
    main(*sys.argv[1:])
