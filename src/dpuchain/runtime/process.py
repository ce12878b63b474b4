"""The life of a process: from its start to the signal that ends it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from dpuchain.runtime import logs, tracing


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


async def _until_signal(main: Callable[[], Coroutine[Any, Any, None]]) -> int:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(main())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        if not task.cancelling():
            raise
    return 0
