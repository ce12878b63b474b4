"""What several folders of integration tests stand on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.integration.relay import Relay

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dpuchain.lab.cluster import Cluster


@pytest.fixture
async def relay(api_server: Cluster) -> AsyncIterator[Relay]:
    address, _, port = api_server.server.removeprefix("https://").rpartition(":")
    relay = Relay(address, int(port))
    await relay.start()
    yield relay
    await relay.stop()
