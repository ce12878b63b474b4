"""Write docs/reference, or with --check say which page there is not what would be written."""

from __future__ import annotations

import sys

from tools.generated import ROOT, Generated
from tools.reference.api import api
from tools.reference.commands import commands
from tools.reference.metrics import metrics
from tools.reference.settings import settings
from tools.reference.told import told

PAGES = {"api.md": api, "commands.md": commands, "metrics.md": metrics, "settings.md": settings, "conditions.md": told}

if __name__ == "__main__":
    pages = {name: write() for name, write in PAGES.items()}
    sys.exit(Generated(ROOT / "docs" / "reference", "*.md", pages, "python -m tools.reference").main(sys.argv[1:]))
