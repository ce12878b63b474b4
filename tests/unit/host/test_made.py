"""How it is known that an object of a release is what Helm made of it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from dpuchain.api.kubernetes import Managed, Metadata
from dpuchain.host import made
from dpuchain.host.made import MADE_ANNOTATION, Made, changed, is_contested, trace, traces_in
from dpuchain.host.targets import releases_of
from dpuchain.kube.client import Client

HELM = {"manager": "helm", "operation": "Update", "time": "2026-01-01T10:00:05Z", "fieldsV1": {"f:data": {"f:a": {}}}}
KUBECTL = {"manager": "kubectl", "operation": "Update", "time": "2026-01-01T10:00:05Z", "fieldsV1": {"f:data": {"f:b": {}}}}
STATUS = {"manager": "kube-controller-manager", "subresource": "status", "time": "2026-01-01T10:00:09Z", "fieldsV1": {"f:status": {}}}


def item(*managers: dict[str, Any], uid: str = "1", **meta: Any) -> Managed:
    content = {"name": "a", "namespace": "dpf", "uid": uid, "managedFields": managers, **meta}
    return msgspec.json.decode(msgspec.json.encode({"metadata": content}), type=Managed)


def test_trace_is_of_the_fields_that_are_helms_and_of_nothing_else() -> None:
    before = trace(item(HELM))
    assert trace(item(KUBECTL, STATUS, {**HELM, "time": "2026-01-02T10:00:00Z"}, generation=7, resourceVersion="9")) == before
    others = [
        item({**HELM, "fieldsV1": {"f:data": {}}}),
        item({**HELM, "fieldsV1": {"f:data": {}}}, {**HELM, "operation": "Apply"}),
        item({**HELM, "subresource": "scale"}),
        item({**HELM, "manager": "kubectl"}),
        item(HELM, uid="2"),
        item(HELM, deletionTimestamp="2026-01-01T10:00:00Z"),
        item(),
    ]
    assert before not in {trace(other) for other in others}


@pytest.mark.parametrize(
    ("managers", "second", "contested"),
    [
        ((HELM, KUBECTL), 5, True),
        ((HELM, KUBECTL), 6, False),
        ((HELM, {**KUBECTL, "time": "2026-01-01T10:00:04Z"}), 5, False),
        (({**HELM, "time": "2026-01-01T10:00:04Z"}, KUBECTL), 5, False),
        ((HELM, STATUS), 5, False),
        ((HELM,), 5, False),
        ((KUBECTL,), 5, False),
    ],
)
def test_object_is_contested_if_helm_and_somebody_else_wrote_it_lately(
    managers: tuple[dict[str, Any], ...], second: int, contested: bool
) -> None:
    assert is_contested(item(*managers), datetime(2026, 1, 1, 10, 0, second, tzinfo=UTC)) is contested


@pytest.mark.parametrize(
    ("now", "names"),
    [
        ({"v1/configmaps": {"dpf/a": "1", "dpf/b": "2"}, "v1/secrets": {"dpf/c": "3"}}, []),
        ({"v1/configmaps": {"dpf/a": "1", "dpf/b": "9"}, "v1/secrets": {}}, ["configmaps dpf/b", "secrets dpf/c"]),
        ({"v1/configmaps": {"dpf/a": "1", "dpf/b": "2", "dpf/x": "4"}}, ["configmaps dpf/x"]),
        ({"v1/services": {"dpf/d": "4"}}, []),
        ({}, []),
    ],
)
def test_what_is_not_known_is_not_taken_for_changed(now: dict[str, dict[str, str]], names: list[str]) -> None:
    assert changed({"v1/configmaps": {"dpf/a": "1", "dpf/b": "2"}, "v1/secrets": {"dpf/c": "3"}}, now) == names


def test_object_that_is_not_known_to_be_as_helm_made_it_has_changed_as_soon_as_its_kind_can_be_read() -> None:
    assert changed({"v1/configmaps": {"dpf/a": ""}}, {}) == []
    assert changed({"v1/configmaps": {"dpf/a": ""}}, {"v1/configmaps": {"dpf/a": "1"}}) == ["configmaps dpf/a"]
    assert changed({"v1/configmaps": {"dpf/a": ""}}, {"v1/configmaps": {}}) == ["configmaps dpf/a"]


def record(text: str) -> Metadata:
    return msgspec.convert({"metadata": {"name": "record", "annotations": {MADE_ANNOTATION: text}}}, Metadata)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"v1/configmaps": null}', '{"v1/configmaps": {"dpf/a": 1}}'])
def test_note_that_is_none_of_ours_is_no_note(text: str) -> None:
    assert traces_in(record(text)) is None
    assert traces_in(Metadata()) is None


async def test_kinds_that_are_followed_are_bounded_and_each_that_is_not_is_told_once() -> None:
    client = Client.from_kubeconfig(
        {
            "clusters": [{"name": "a", "cluster": {"server": "https://127.0.0.1:9"}}],
            "users": [{"name": "a", "user": {"token": "t"}}],
            "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
            "current-context": "a",
        },
        user_agent="tests",
    )
    followed = Made(client, releases_of(client))
    kinds = [f"example.com/v1/kind{number:02}s" for number in range(made.MOST_KINDS)]
    many = record(msgspec.json.encode({kind: {} for kind in [*kinds, "../../api/v1/nodes"]}).decode())
    with capture_logs() as logs:
        async with client, asyncio.TaskGroup() as group:
            for _ in range(2):
                followed._follow(many, group)
            assert len(followed._caches) == made.MOST_KINDS, "with DaemonSets"
            for task in group._tasks:
                task.cancel()
    assert sorted(entry["kind"] for entry in logs if entry["event"].startswith("not followed")) == ["../../api/v1/nodes", kinds[-1]]
