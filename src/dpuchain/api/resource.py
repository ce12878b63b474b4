"""How a kind is addressed on an API server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from dpuchain.api.meta import Object

T_co = TypeVar("T_co", bound=Object, covariant=True)


@dataclass(frozen=True)
class Resource(Generic[T_co]):
    """One kind: its group (empty for Kubernetes' core), version, plural and the struct that its objects decode to."""

    group: str
    version: str
    kind: str
    plural: str
    type: type[T_co]
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """The `apiVersion` of the kind's objects, such as `svc.dpu.nvidia.com/v1alpha1` or `v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """URL path of the collection, of one object, or of a subresource of it.

        An empty `namespace` addresses the collection of all namespaces (or a cluster-scoped kind). A subresource needs a name.
        """
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/".join(parts)
