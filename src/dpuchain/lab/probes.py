"""Asking a part of the rack whether it is there."""

from __future__ import annotations

import aiohttp

TIMEOUT = aiohttp.ClientTimeout(total=5)


async def answers(url: str, connector: aiohttp.BaseConnector | None = None) -> bool:
    """Whether a health address answers 200; False while there is nobody to answer."""
    try:
        async with aiohttp.ClientSession(connector=connector, timeout=TIMEOUT) as session, session.get(url) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False
