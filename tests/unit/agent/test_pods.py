from __future__ import annotations

from dataclasses import replace

import pytest

from dpuchain.agent.pods import LONGEST_ALIAS, Attachment
from dpuchain.api.meta import ObjectKey

ATTACHMENT = Attachment(ObjectKey("ns", "fw-x7k2p"), "eth1", "c0ffee", "mybrsfc", "/run/netns/with a space")


def test_device_says_all_that_its_port_is_made_of() -> None:
    assert Attachment.of_alias(ATTACHMENT.alias) == ATTACHMENT


@pytest.mark.parametrize("alias", ["", "uplink", "a b c d e f", "dpuchain fw eth1 c0ffee mybrsfc /run", "dpuchain ns/fw eth1 c0ffee"])
def test_alias_of_somebody_else_says_nothing(alias: str) -> None:
    assert Attachment.of_alias(alias) is None


def test_device_says_all_but_the_namespace_where_the_kernel_has_no_room_for_that() -> None:
    room = LONGEST_ALIAS - len(ATTACHMENT.alias)
    fitting = replace(ATTACHMENT, namespace=ATTACHMENT.namespace + "x" * room)
    assert len(fitting.alias) == LONGEST_ALIAS
    assert Attachment.of_alias(fitting.alias) == fitting
    too_long = replace(fitting, namespace=fitting.namespace + "x")
    assert Attachment.of_alias(too_long.alias) == replace(ATTACHMENT, namespace="")
    assert "contNetns" not in replace(ATTACHMENT, namespace="").external_ids


def test_longest_names_that_controllers_give_leave_room() -> None:
    longest = Attachment(
        ObjectKey("n" * 63, "p" * 63), "e" * 15, "c" * 64, "network-of-a-service", "/var/run/netns/cni-00000000-0000-0000-0000-000000000000"
    )
    assert Attachment.of_alias(longest.alias) == replace(longest, namespace="")


def test_device_says_nothing_where_the_kernel_would_not_keep_it() -> None:
    assert replace(ATTACHMENT, pod=ObjectKey("ns", "p" * 253)).alias == ""
