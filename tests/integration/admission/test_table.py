"""The table, put to a real API server that asks admission over HTTPS; each case as a server-side dry run first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.admission_cases import CASES, Case
from tests.integration.admission.conftest import Admission, Answer, Place, registered, started
from tests.worlds import NORTH, config

from dpuchain.api.fleet import DPFOperatorConfig, DPUCluster

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Background
    from tests.integration.admission.conftest import Clusters

REAL = [case for case in CASES if not case.standing]
"""Worlds in which something is wrong already cannot be made while admission is at work."""


@pytest.fixture(scope="module")
def admission(background: Background, clusters: Clusters) -> Iterator[Admission]:
    with started(background, clusters.host) as running:
        yield running


def test_table_is_large_enough() -> None:
    assert len(REAL) >= 60


@pytest.mark.parametrize("case", REAL, ids=lambda case: case.name)
async def test_case(case: Case, admission: Admission, host: Place, north: Place) -> None:
    made: list[tuple[Place, Any]] = []

    async def have(place: Place, item: Any) -> Answer:
        if isinstance(item, DPUCluster):
            item = registered(**item.metadata.labels)
        answer = await place.apply(item)
        assert answer.status < 300, answer
        if not isinstance(item, DPUCluster | DPFOperatorConfig):
            made.append((place, item))
        return answer

    answers = [await have(host, registered()), await have(host, config(9000))]
    answers += [await have(north, item) for item in case.north]
    answers += [await have(host, item) for item in case.host]
    if case.old is not None:
        answers.append(await have(host, case.old))
    try:
        newest = {
            (answer.body["kind"], answer.body["metadata"]["name"], answer.body["metadata"].get("namespace")): answer for answer in answers
        }
        await admission.saw(newest.values())
        new = registered(**case.new.metadata.labels) if isinstance(case.new, DPUCluster) else case.new
        if new is not None:
            judged(case, await host.apply(new, dryRun="All"))
        answer = await (host.delete(case.old) if new is None else host.apply(new))
        judged(case, answer)
        if new is not None and not answer.refused and case.old is None:
            made.append((host, new))
    finally:
        for place, item in reversed(made):
            await place.delete(item)
        await host.apply(registered())
        await host.apply(config(9000))
        await admission.knows(lambda: _bare(admission))


def judged(case: Case, answer: Answer) -> None:
    assert answer.refused == bool(case.refused), answer
    assert answer.refused or answer.status < 300, answer
    assert [words for words in case.refused if words not in answer.message] == []
    warnings = "\n".join(answer.warnings)
    assert answer.refused or [words for words in case.warned if words not in warnings] == []
    if case.silent:
        assert answer.warnings == []


def _bare(admission: Admission) -> bool:
    """Whether it has seen that nothing is left of a case."""
    fleet = admission.world.fleet
    cluster = fleet.clusters.get(NORTH)
    member = fleet.member(NORTH)
    empty = not fleet.sources and not fleet.services and not len(member.nodes) and not any(member.pods.services.values())
    return empty and cluster is not None and not cluster.metadata.labels and fleet.high_speed_mtu == 9000
