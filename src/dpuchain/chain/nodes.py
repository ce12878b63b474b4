"""The nodes and the pods of a DPU cluster, so held that asking which a selector picks costs little though there are thousands.

Both are values: a change gives a new one, which keeps what the old one has worked out as far as it is still so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from dpuchain.api.kubernetes import Pod
from dpuchain.api.meta import LabelSelector, Object
from dpuchain.api.names import SERVICE_LABEL
from dpuchain.chain.restarts import wired_mtus
from dpuchain.chain.selectors import Requirements, matches, requirements

REMEMBERED = 512
"""Selectors whose nodes are kept; more than that are those of objects that were only asked about."""


@dataclass(frozen=True)
class _Picked:
    """A selector, and the names of the nodes that it picks."""

    selector: LabelSelector | None
    names: frozenset[str]

    def having(self, name: str, *, is_so: bool) -> _Picked:
        """The same, now that this is so of the node `name`."""
        if is_so == (name in self.names):
            return self
        return _Picked(self.selector, self.names | {name} if is_so else self.names - {name})


@dataclass(frozen=True)
class Nodes:
    """Nodes by name. One that is being deleted is none."""

    items: Mapping[str, Object] = field(default_factory=dict)
    _picked: dict[Requirements, _Picked] = field(default_factory=dict, repr=False, compare=False)
    """Which nodes a selector picks; filled as it is asked."""

    @classmethod
    def of(cls, items: Iterable[Object]) -> Nodes:
        """These nodes."""
        return cls({item.metadata.name: item for item in items if item.metadata.deletion_timestamp is None})

    def __len__(self) -> int:
        return len(self.items)

    def put(self, item: Object) -> Nodes:
        """With `item` in the place of the node of its name."""
        if item.metadata.deletion_timestamp is not None:
            return self.drop(item.metadata.name)
        name, labels = item.metadata.name, item.metadata.labels
        old = self.items.get(name)
        items = {**self.items, name: item}
        if old is not None and old.metadata.labels == labels:
            return Nodes(items, self._picked)
        return Nodes(
            items, {wanted: picked.having(name, is_so=matches(picked.selector, labels)) for wanted, picked in self._picked.items()}
        )

    def drop(self, name: str) -> Nodes:
        """Without the node of that name."""
        if name not in self.items:
            return self
        items = {other: item for other, item in self.items.items() if other != name}
        return Nodes(items, {wanted: picked.having(name, is_so=False) for wanted, picked in self._picked.items()})

    def picked(self, selector: LabelSelector | None) -> frozenset[str]:
        """The names of those that `selector` picks."""
        wanted = requirements(selector)
        found = self._picked.get(wanted)
        if found is None:
            if len(self._picked) >= REMEMBERED:
                self._picked.clear()
            found = self._picked[wanted] = _Picked(selector, self._pick(selector, {need.key for need in wanted}))
        return found.names

    def _pick(self, selector: LabelSelector | None, keys: set[str]) -> frozenset[str]:
        """As `matches` says; asked once for all nodes that are alike in the labels that the selector looks at."""
        answers: dict[tuple[str | None, ...], bool] = {}
        found = []
        for name, item in self.items.items():
            labels = item.metadata.labels
            alike = tuple(labels.get(key) for key in keys)
            if alike not in answers:
                answers[alike] = matches(selector, labels)
            if answers[alike]:
                found.append(name)
        return frozenset(found)


class Service(NamedTuple):
    """What makes pods a service's."""

    namespace: str
    service_id: str


@dataclass(frozen=True)
class PodGroup:
    """Pods of one service that are alike in what decides about their restart: one of them, and how many there are on each node."""

    sample: Pod
    counts: Mapping[str, int]


_Likeness = tuple[tuple[tuple[str, int | None], ...], bool]
"""The MTU that each interface was wired with, and whether somebody makes the pod anew when it is gone."""


@dataclass(frozen=True)
class Pods:
    """The pods of services that serve, or will. Those that have ended or are on their way out are none."""

    services: Mapping[Service, Mapping[_Likeness, PodGroup]] = field(default_factory=dict)

    @classmethod
    def of(cls, pods: Iterable[Pod]) -> Pods:
        """These pods."""
        found = cls()
        for pod in pods:
            found = found.changed(None, pod)
        return found

    def changed(self, old: Pod | None, new: Pod | None) -> Pods:
        """After `old` became `new`: None where there was none, or is none any more."""
        return _counted(_counted(self, old, -1), new, 1)

    def groups(self, service: Service) -> Iterable[PodGroup]:
        """The pods of a service."""
        return self.services.get(service, {}).values()


def _counted(pods: Pods, pod: Pod | None, by: int) -> Pods:
    if pod is None or not pod.spec.node_name or pod.metadata.deletion_timestamp or pod.status.phase in ("Succeeded", "Failed"):
        return pods
    service = Service(pod.metadata.namespace, pod.metadata.labels.get(SERVICE_LABEL, ""))
    likeness = tuple(sorted(wired_mtus(pod).items())), any(owner.controller for owner in pod.metadata.owner_references)
    groups = dict(pods.services.get(service, {}))
    counts = dict(groups[likeness].counts) if likeness in groups else {}
    counts[pod.spec.node_name] = counts.get(pod.spec.node_name, 0) + by
    counts = {node: count for node, count in counts.items() if count > 0}
    groups[likeness] = PodGroup(groups[likeness].sample if likeness in groups else pod, counts)
    return Pods({**pods.services, service: {key: group for key, group in groups.items() if group.counts}})
