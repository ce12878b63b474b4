"""The life of a process: from its start to the signal that ends it."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from dpuchain.runtime import logs, tracing

GIVE_BACK_SECONDS = 60.0
"""How often memory that is not used any more is given back to the kernel."""


def run(
    main: Callable[[], Coroutine[Any, Any, None]],
    *,
    log_level: str = "info",
    log_format: logs.Format | None = None,
    traced: Mapping[str, str] | None = None,
) -> int:
    """Run `main` until it returns (0), or until SIGTERM or SIGINT cancels it (0). Its exceptions pass through.

    A process that takes part in traces says by `traced` who it is. ValueError if they are asked for and cannot be sent.
    """
    logs.set_up(log_level, log_format)
    if traced is None:
        return asyncio.run(_until_signal(main))
    with tracing.on(traced, os.environ):
        return asyncio.run(_until_signal(main))


def _keep_giving_back(loop: asyncio.AbstractEventLoop) -> None:
    """Have the C library give memory back that it keeps between blocks which are in use, now and once a minute.

    asyncio has a buffer of 256 KB for each TLS connection, and takes as much for each read. What is freed of that glibc keeps, between
    smaller blocks (malloc_trim(3)), so that a process would grow with the connections that it has had. Having the kernel asked for each
    such block (mallopt(3), M_MMAP_THRESHOLD) does as much for memory, but makes a read 10 µs longer. A process of 135 MB stands still for
    2 to 3 ms meanwhile, and for 28 ms when 235 MB are given back.
    """
    with contextlib.suppress(AttributeError):  # a C library that has no such thing
        ctypes.CDLL(None).malloc_trim(0)
        loop.call_later(GIVE_BACK_SECONDS, _keep_giving_back, loop)


async def _until_signal(main: Callable[[], Coroutine[Any, Any, None]]) -> int:
    loop = asyncio.get_running_loop()
    _keep_giving_back(loop)
    task = asyncio.ensure_future(main())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        if not task.cancelling():
            raise
    return 0
