"""What was measured, and how it is shown."""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import quantiles

from rich.console import Console
from rich.table import Table

WIDTH = 140
"""Of the table where there is no terminal, such as in a log."""
RESULT = Path(".bench") / "figures.json"


@dataclass(frozen=True)
class Figure:
    """One number with its unit, the most that it may be, and over how many runs it was taken.

    With `at_least` the limit is the least that it may be. Without a limit it is there to be compared with others.
    """

    name: str
    value: float
    unit: str
    limit: float | None = None
    runs: int = 1
    at_least: bool = False

    @property
    def good(self) -> bool:
        """Whether the goal is reached, if there is one."""
        if self.limit is None:
            return True
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    @property
    def goal(self) -> str:
        """The goal in words; empty if there is none."""
        return "" if self.limit is None else f"{'≥' if self.at_least else '≤'} {self.limit:g} {self.unit}".rstrip()


def percentile(seconds: list[float], percent: int) -> float:
    """A percentile of durations, in milliseconds; with few runs the highest ones are interpolated towards the maximum."""
    return quantiles(seconds, n=100, method="inclusive")[percent - 1] * 1000


def write(figures: list[Figure], result: Path = RESULT) -> None:
    """Leave the figures as JSON, and print them as a table."""
    result.parent.mkdir(exist_ok=True)
    content = {"machine": f"{platform.machine()}, {platform.release()}", "figures": [asdict(figure) for figure in figures]}
    result.write_text(json.dumps(content, indent=2) + "\n")
    table = Table("figure", "measured", "to reach", "runs", "")
    for figure in figures:
        mark = "" if figure.limit is None else "[green]reached[/]" if figure.good else "[red]missed[/]"
        table.add_row(figure.name, _shown(figure), figure.goal, str(figure.runs), mark)
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(table)
    console.print(f"also in {result}")


def _shown(figure: Figure) -> str:
    digits = 1 if abs(figure.value) >= 10 else 2
    return f"{figure.value:.{digits}f} {figure.unit}".rstrip()
