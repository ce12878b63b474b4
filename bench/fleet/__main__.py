"""`python -m bench.fleet`: measure a simulated fleet, print the table, leave the JSON. Ends with status 1 if a goal is missed."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from bench import figures
from bench.figures import Figure
from bench.fleet.full import Size
from bench.fleet.run import BY_DEFAULT, PARTS, Wanted, measure

RESULT = Path(".bench") / "fleet.json"


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--chains", type=int, default=30, help="of the full fleet, on each node")
    parser.add_argument("--interfaces", type=int, default=30, help="likewise")
    parser.add_argument("--quick", action="store_true", help="100 nodes, 3 chains, 3 interfaces")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=BY_DEFAULT, metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--minutes", type=float, default=30, help="of the soak, which is done only if it is asked for")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.nodes, arguments.chains, arguments.interfaces = 100, 3, 3
    found: list[Figure] = []
    try:
        wanted = Wanted(arguments.nodes, Size(arguments.chains, arguments.interfaces), arguments.only, arguments.minutes)
        asyncio.run(measure(wanted, found.extend))
    finally:
        figures.write(found, RESULT)
    sys.exit(not all(figure.good for figure in found))


if __name__ == "__main__":
    main()
