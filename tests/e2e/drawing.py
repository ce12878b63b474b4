"""Lines over time, drawn as a picture: as much of Grafana's work as shows whether a dashboard shows anything."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, MARGIN, COLUMNS = 420, 200, 24, 3
COLOURS = ("#3366cc", "#dc3912", "#ff9900", "#109618", "#990099", "#0099c6", "#dd4477", "#66aa00")


@dataclass(frozen=True)
class Line:
    """What it is called, and its values by the second."""

    name: str
    points: tuple[tuple[float, float], ...]

    @property
    def seen(self) -> list[tuple[float, float]]:
        """The points that can be drawn."""
        return [(moment, value) for moment, value in self.points if math.isfinite(value)]


def draw(panels: dict[str, list[Line]]) -> str:
    """The panels beside each other, as SVG."""
    rows = -(-len(panels) // COLUMNS)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{COLUMNS * WIDTH}" height="{rows * HEIGHT}" font-size="11">']
    for position, (title, lines) in enumerate(panels.items()):
        x, y = WIDTH * (position % COLUMNS), HEIGHT * (position // COLUMNS)
        parts += [f'<g transform="translate({x},{y})"><text x="{MARGIN}" y="16">{escape(title)}</text>', *_lines(lines), "</g>"]
    return "\n".join([*parts, "</svg>"])


def _lines(lines: list[Line]) -> list[str]:
    points = [point for line in lines for point in line.seen]
    if not points:
        return []
    first, last = min(moment for moment, _ in points), max(moment for moment, _ in points)
    top = max(value for _, value in points) or 1.0
    drawn = [f'<text x="{WIDTH - 80}" y="16">{top:.3g}</text>']
    for number, line in enumerate(lines):
        places = " ".join(
            f"{MARGIN + (WIDTH - 2 * MARGIN) * (moment - first) / ((last - first) or 1):.1f},"
            f"{HEIGHT - MARGIN - (HEIGHT - 3 * MARGIN) * value / top:.1f}"
            for moment, value in line.seen
        )
        if places:
            colour = COLOURS[number % len(COLOURS)]
            drawn.append(f'<polyline fill="none" stroke="{colour}" points="{places}"><title>{escape(line.name)}</title></polyline>')
    return drawn
