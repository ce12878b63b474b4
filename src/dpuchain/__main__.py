"""`python -m dpuchain`, the same as the command `dpuchain`."""

from __future__ import annotations

from dpuchain.cli import main

if __name__ == "__main__":
    main(prog_name="dpuchain")
