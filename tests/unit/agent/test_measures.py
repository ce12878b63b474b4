"""Counters of a switch, told as ones that never fall."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dpuchain.agent.measures import Totals

A, B = ("a",), ("b",)


def test_a_source_that_begins_anew_takes_nothing_back() -> None:
    totals = Totals()
    assert totals.add([(A, 1, 10), (A, 2, 5)]) == {A: 15}
    assert totals.add([(A, 1, 10), (A, 2, 1)]) == {A: 16}, "2 began anew and has counted 1"
    assert totals.add([(A, 1, 12)]) == {A: 18}, "2 is gone, and what it counted stays"
    assert totals.add([(A, 1, 12), (A, 2, 4)]) == {A: 22}, "2 is there again"


def test_a_series_without_sources_is_gone_and_begins_at_what_is_counted() -> None:
    totals = Totals()
    totals.add([(A, 1, 10), (B, 1, 3)])
    assert totals.add([(B, 1, 3)]) == {B: 3}
    assert totals.add([(A, 1, 2), (B, 1, 3)]) == {A: 2, B: 3}


@given(st.lists(st.dictionaries(st.integers(0, 3), st.integers(0, 100), min_size=1), max_size=20))
def test_no_total_ever_falls(scrapes: list[dict[int, int]]) -> None:
    totals, last = Totals(), 0.0
    for scrape in scrapes:
        now = totals.add((A, source, value) for source, value in scrape.items())[A]
        assert now >= last
        last = now
