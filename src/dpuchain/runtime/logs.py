"""Logs: one JSON object a line for programs, coloured text for people.

A line has `timestamp`, `level` and `event`, and says what it is about: `kind`, `namespace` and `name` of the object, `node` and `cluster`
where there is one. Whatever works on an object, or for a node or a cluster, says so once (`about`, `bind`), and every line that is written
meanwhile, by whomever, has it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Literal

import structlog
from structlog.contextvars import bind_contextvars, bound_contextvars

from dpuchain.api.meta import ObjectKey

Format = Literal["json", "text"]

_log = structlog.get_logger(__name__)


def set_up(level: str = "info", form: Format | None = None) -> None:
    """Send all logs, those of libraries and the end by an error too, to standard error at `level` and above.

    As JSON if `form` is not given and standard error is not a terminal.
    """
    threshold = logging.getLevelNamesMapping()[level.upper()]
    terminal = sys.stderr.isatty()
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    text = form == "text" or (form is None and terminal)
    renderer: structlog.types.Processor = structlog.dev.ConsoleRenderer(colors=terminal) if text else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared))
    logging.basicConfig(level=max(threshold, logging.INFO), handlers=[handler], force=True)
    logging.captureWarnings(True)
    sys.excepthook = _ended


def _ended(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    _log.critical("the process ends by an error that it does not know", exc_info=(kind, error, trace))


def bind(**about: str) -> None:
    """Have all further lines of this task, and of the tasks that it starts, say this."""
    bind_contextvars(**about)


@contextmanager
def about(kind: str, key: Hashable) -> Iterator[None]:
    """Have all lines that are written meanwhile say which object they are about, if `key` is one's: its own, or a kind with its own."""
    named = key
    if isinstance(key, tuple) and not isinstance(key, ObjectKey) and len(key) == 2 and isinstance(key[1], ObjectKey):
        kind, named = key
    if not isinstance(named, ObjectKey):
        yield
        return
    with bound_contextvars(**({"kind": kind} if kind else {}), namespace=named.namespace, name=named.name):
        yield
