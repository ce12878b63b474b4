from __future__ import annotations

import pytest

from dpuchain.agent.pods import LONGEST_ALIAS, Attachment
from dpuchain.api.meta import ObjectKey

ATTACHMENT = Attachment(ObjectKey("ns", "fw-x7k2p"), "eth1", "c0ffee", "mybrsfc", "/run/netns/with a space")


def test_device_says_all_that_its_port_is_made_of() -> None:
    assert Attachment.of_alias(ATTACHMENT.alias) == ATTACHMENT


@pytest.mark.parametrize("alias", ["", "uplink", "a b c d e f", "dpuchain fw eth1 c0ffee mybrsfc /run", "dpuchain ns/fw eth1 c0ffee"])
def test_alias_of_somebody_else_says_nothing(alias: str) -> None:
    assert Attachment.of_alias(alias) is None


def test_device_says_nothing_where_the_kernel_would_not_keep_it() -> None:
    room = LONGEST_ALIAS - len(ATTACHMENT.alias)
    fitting = Attachment(ATTACHMENT.pod, "eth1", "c0ffee", "mybrsfc", ATTACHMENT.namespace + "x" * room)
    assert len(fitting.alias) == LONGEST_ALIAS
    assert Attachment(fitting.pod, "eth1", "c0ffee", "mybrsfc", fitting.namespace + "x").alias == ""
