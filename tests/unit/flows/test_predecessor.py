"""DPF's flows are known by their cookies, and by nothing else."""

from __future__ import annotations

from dpuchain.api.meta import ObjectKey
from dpuchain.flows.model import Flush
from dpuchain.flows.pipeline import STATIC_KIND, cookie
from dpuchain.flows.predecessor import cookie_of, fnv64a, superseded

CHAIN, OTHER = ObjectKey("dpf", "chain"), ObjectKey("dpf", "other")


def test_cookie_is_the_hash_that_others_have_by_this_name() -> None:
    assert {text: fnv64a(text) for text in (b"", b"a", b"foobar")} == {
        b"": 0xCBF29CE484222325,
        b"a": 0xAF63DC4C8601EC8C,
        b"foobar": 0x85944171F73967E8,
    }
    assert cookie_of(CHAIN) == fnv64a(b"dpf/chain")


def test_only_flows_of_chains_that_are_ours_now_go() -> None:
    cookies = {cookie_of(CHAIN), cookie_of(OTHER), 0x77, cookie(STATIC_KIND, 1)}
    assert superseded([CHAIN], cookies) == (Flush(None, cookie_of(CHAIN), (1 << 64) - 1),)
    assert superseded([CHAIN], {0x77}) == ()
    assert superseded([], cookies) == ()
