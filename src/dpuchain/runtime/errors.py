"""Errors of reconciling."""

from __future__ import annotations


class Terminal(Exception):
    """The work can never succeed as things are: not tried again until something that it depends on changes."""
