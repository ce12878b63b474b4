"""What is counted as it goes is right, what we wrote counts until a watch brings it or what came after it, and how long that took."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpuchain.api.chain import ServiceChain, ServiceChainSet, ServiceChainSetSpec, ServiceChainSpec, ServiceChainTemplate
from dpuchain.api.meta import ObjectKey, ObjectMeta
from dpuchain.chain.expand import chain_maker
from dpuchain.chain.status import LISTED, Standing
from dpuchain.dpu.ledger import Ledger

KEY = ObjectKey("ns", "chain")


def chain(version: int, uid: str = "first") -> ServiceChain:
    metadata = ObjectMeta(name=KEY.name, namespace=KEY.namespace, uid=uid, resource_version=str(version))
    return ServiceChain(metadata=metadata, spec=ServiceChainSpec(node="dpu-1", switches=()))


NODES = st.integers(0, 2 * LISTED).map(str)
KEYS = st.builds(ObjectKey, st.just("ns"), st.text("abc", min_size=1))
STANDINGS = st.builds(Standing, KEYS, st.just(""), applied=st.booleans(), cause=st.sampled_from([None, "no port", "no link"]))


@pytest.fixture
def ledger() -> Ledger:
    return of_a_set()


def of_a_set() -> Ledger:
    spec = ServiceChainSetSpec(template=ServiceChainTemplate(spec=ServiceChainSpec(switches=())))
    return Ledger(chain_maker(ServiceChainSet(metadata=ObjectMeta(name="set", namespace="ns"), spec=spec)))


def test_our_write_counts_until_it_comes_back(ledger: Ledger) -> None:
    assert ledger.wrote(chain(7), None, 10.0)
    assert ledger.newest(KEY, None) == ledger.newest(KEY, chain(6)) == chain(7)
    assert ledger.seen(chain(6), 10.5) is None
    assert ledger.newest(KEY, chain(6)) == chain(7)
    assert ledger.seen(chain(7), 11.0) == 1.0
    assert ledger.newest(KEY, chain(6)) == chain(6), "nothing is kept of what the cache has"
    assert ledger.seen(chain(8), 12.0) is None


def test_somebody_elses_change_after_it_brings_it_too(ledger: Ledger) -> None:
    assert ledger.wrote(chain(7), chain(5), 10.0)
    assert ledger.seen(chain(9), 10.25) == 0.25


def test_a_watch_may_be_faster_than_the_answer(ledger: Ledger) -> None:
    assert not ledger.wrote(chain(7), chain(8), 10.0)
    assert ledger.newest(KEY, chain(8)) == chain(8)
    assert ledger.seen(chain(9), 10.25) is None


def test_a_deletion_ends_it_if_it_is_of_the_object_that_was_written(ledger: Ledger) -> None:
    ledger.wrote(chain(7), None, 10.0)
    ledger.gone(chain(6, "another"))
    assert ledger.newest(KEY, None) == chain(7)
    ledger.gone(chain(8))
    assert ledger.newest(KEY, None) is None


@given(st.lists(st.tuples(NODES, st.none() | STANDINGS, st.integers(0, 2))))
def test_what_is_counted_as_it_goes_is_what_a_count_of_all_gives(notes: list[tuple[str, Standing | None, int]]) -> None:
    ledger = of_a_set()
    for node, standing, surplus in notes:
        ledger.note(node, standing, surplus)
    last = {node: (standing, surplus) for node, standing, surplus in notes}
    standings = [standing for standing, _ in last.values() if standing is not None]
    tally = ledger.tally
    assert (tally.wanted, tally.applied) == (len(standings), sum(standing.applied for standing in standings))
    assert tally.surplus == sum(surplus for _, surplus in last.values())
    unready = sorted((standing for standing in standings if standing.cause is not None), key=lambda standing: standing.item)
    assert tally.unready == len(unready)
    assert [standing.item for standing in tally.first] == [standing.item for standing in unready[:LISTED]]
    assert all(standing in unready for standing in tally.first)
