"""What follows from how long the API server may be away."""

from __future__ import annotations

import asyncio

from hypothesis import example, given
from hypothesis import strategies as st

from dpuchain.agent.contact import Contact, Terms
from dpuchain.agent.node import NodeObjects
from dpuchain.flows.lease import LONGEST_SECONDS
from dpuchain.kube.client import Client
from dpuchain.kube.kubeconfig import Endpoint
from dpuchain.runtime.clock import SystemClock


@given(st.floats(0.001, 1e9))
@example(LONGEST_SECONDS / 1.25)
@example(LONGEST_SECONDS)
def test_flows_live_as_long_as_they_may_and_a_quarter_longer_at_most(timeout: float) -> None:
    terms = Terms(timeout)
    assert 1 <= terms.lifetime <= LONGEST_SECONDS
    assert terms.lifetime <= max(1.25 * timeout + 1, 1)
    oldest_renewal = terms.period + terms.interval  # before the last contact, or, where flows are renewed without one, before now
    if terms.tied:
        assert terms.lifetime >= timeout + oldest_renewal
    else:
        assert terms.lifetime >= 4 * oldest_renewal


async def test_without_the_setting_nothing_is_asked() -> None:
    """A client that has not been opened raises at the first request."""
    client = Client(Endpoint("https://host", None, lambda: None), user_agent="test")
    contact = Contact(client, NodeObjects.of(client, "node"), SystemClock())
    task = asyncio.ensure_future(contact.run())
    await asyncio.wait([task], timeout=0.2)
    assert not task.done()
    assert (contact.lifetime, contact.problem) == (None, None)
    task.cancel()
    await asyncio.wait([task])
