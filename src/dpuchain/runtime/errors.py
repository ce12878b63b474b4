"""Errors of reconciling."""

from __future__ import annotations


class Terminal(Exception):
    """The work can never succeed as things are: not tried again until something that it depends on changes."""


class Unfinished(Exception):
    """Part of the work could not be done, for a reason that is told in the object's status: tried again with back-off."""
