"""Which of two services with one serviceID has it, and where they can be told apart after all."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.admission_cases.services import on_zone
from tests.worlds import ZONE_A, ZONE_B, cluster, service

from dpuchain.api.meta import key_of
from dpuchain.api.service import DPUService
from dpuchain.chain.identities import identity_problems

NORTH = cluster("north", zone="a")
OLD, NEW = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


def having(name: str, created: str, in_force: str | None = None, **about: Any) -> DPUService:
    item = service(name, service_id="fw", creationTimestamp=created, **about)
    return msgspec.structs.replace(item, status=msgspec.structs.replace(item.status, service_id=in_force))


def kept_out(*services: DPUService) -> list[str]:
    """Those that cannot have their serviceID."""
    return [item.metadata.name for item in services if identity_problems(item, services, [NORTH])]


def test_the_older_has_it() -> None:
    assert kept_out(having("a", NEW), having("b", OLD)) == ["a"]
    assert kept_out(having("b", OLD), having("a", OLD)) == ["b"]


def test_who_has_it_in_force_keeps_it() -> None:
    assert kept_out(having("old", OLD, in_force="before"), having("new", NEW, in_force="fw")) == ["old"]


def test_all_but_one_of_many_are_kept_out() -> None:
    services = [having(name, OLD) for name in "cab"]
    assert kept_out(*services) == ["c", "b"]
    (first, _) = identity_problems(services[0], services, [NORTH])
    assert [item.key.name for item in first.between] == ["a", "c"]


@pytest.mark.parametrize(
    ("spec", "other"),
    [
        ({"dpuClusterSelector": ZONE_B}, {}),
        ({"dpuClusterSelector": ZONE_B}, {"dpuClusterSelector": ZONE_A}),
        ({"deployInCluster": True}, {}),
        (on_zone("Exists"), on_zone("DoesNotExist")),
    ],
)
def test_those_that_never_meet_both_have_it(spec: dict[str, Any], other: dict[str, Any]) -> None:
    assert kept_out(having("a", OLD, spec=spec), having("b", NEW, spec=other)) == []


@pytest.mark.parametrize(
    "asked", [{}, {"nodeSelectorTerms": []}, {"nodeSelectorTerms": [{"matchExpressions": [{"operator": "Gt"}]}]}, {"x": 1}]
)
def test_what_is_no_plain_selector_keeps_nobody_apart(asked: dict[str, Any]) -> None:
    assert kept_out(having("a", OLD, spec={"serviceDaemonSet": {"nodeSelector": asked}}), having("b", NEW)) == ["b"]


def test_nodes_that_the_values_of_a_chart_select_count() -> None:
    first, second = on_zone("In", "a"), on_zone("In", "b")
    assert kept_out(having("a", OLD, values=first), having("b", NEW, values=second)) == []
    assert kept_out(having("a", OLD, values=first), having("b", NEW, values=first)) == ["b"]


def test_services_of_two_namespaces_have_nothing_to_do_with_one_another() -> None:
    here = having("a", OLD)
    there = msgspec.structs.replace(here, metadata=msgspec.structs.replace(here.metadata, namespace="other"))
    assert key_of(here) != key_of(there)
    assert kept_out(here, there) == []
