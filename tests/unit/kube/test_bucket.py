"""Token buckets: a burst at once, then a measured pace."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dpuchain.kube.bucket import TokenBuckets


def test_a_burst_goes_at_once_and_then_one_a_second() -> None:
    buckets = TokenBuckets(3, 1.0)
    for _ in range(3):
        assert buckets.wait("a", 100.0) == 0
        buckets.take("a", 100.0)
    assert buckets.wait("a", 100.0) == 1.0
    assert buckets.wait("b", 100.0) == 0
    assert buckets.wait("a", 100.75) == 0.25
    assert buckets.wait("a", 101.0) == 0
    buckets.take("a", 101.0)
    assert buckets.wait("a", 101.0) == 1.0
    buckets.forget("a")
    assert buckets.wait("a", 101.0) == 0


@given(st.lists(st.floats(0, 3), max_size=60))
def test_no_more_than_burst_and_pace_in_any_window(pauses: list[float]) -> None:
    buckets, now, taken = TokenBuckets(3, 1.0), 0.0, []
    for pause in pauses:
        now += pause
        buckets.trim(now)  # which changes nothing
        if buckets.wait("k", now) == 0:
            buckets.take("k", now)
            taken.append(now)
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            assert last - first + 1 <= 3 + (taken[last] - taken[first]) + 1e-6
