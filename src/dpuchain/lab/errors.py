"""What can go wrong while a rack is raised, used or taken down."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class LabError(Exception):
    """What is wrong, and what to do about it, in words for the person at the terminal."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"{problem}: {remedy}" if remedy else problem)
        self.problem = problem
        self.remedy = remedy


class ProcessDied(LabError):
    """A process of the lab ended unasked; carries the end of its log."""

    def __init__(self, name: str, status: int, log: Path, tail: str) -> None:
        ending = f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"
        super().__init__(f"{name} {ending}; the end of {log}:\n{tail}")
        self.name = name
        self.status = status
        self.tail = tail


class NotReady(LabError):
    """A part of the lab runs but did not become ready in time; carries the end of its log."""
