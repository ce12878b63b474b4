"""Which version of dpuchain runs."""

from __future__ import annotations

from importlib.metadata import version

VERSION = version("dpuchain")
