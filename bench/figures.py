"""What was measured, and how it is shown."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import quantiles

from rich.console import Console
from rich.table import Table

RESULT = Path(".bench") / "figures.json"


@dataclass(frozen=True)
class Figure:
    """One number with its unit, the most that it may be, and over how many runs it was taken."""

    name: str
    value: float
    unit: str
    limit: float
    runs: int = 1

    @property
    def good(self) -> bool:
        """Whether the goal is reached."""
        return self.value <= self.limit


def percentile(seconds: list[float], percent: int) -> float:
    """A percentile of durations, in milliseconds; with few runs the highest ones are interpolated towards the maximum."""
    return quantiles(seconds, n=100, method="inclusive")[percent - 1] * 1000


def write(figures: list[Figure]) -> None:
    """Leave the figures as JSON, and print them as a table."""
    RESULT.parent.mkdir(exist_ok=True)
    content = {"machine": f"{platform.machine()}, {platform.release()}", "figures": [asdict(figure) for figure in figures]}
    RESULT.write_text(json.dumps(content, indent=2) + "\n")
    table = Table("figure", "measured", "to reach", "runs", "")
    for figure in figures:
        mark = "[green]reached[/]" if figure.good else "[red]missed[/]"
        table.add_row(figure.name, f"{figure.value:.1f} {figure.unit}", f"≤ {figure.limit:g} {figure.unit}", str(figure.runs), mark)
    Console().print(table)
    Console().print(f"also in {RESULT}")
