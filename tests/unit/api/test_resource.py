"""Where on an API server a kind is found."""

from __future__ import annotations

import pytest

from dpuchain.api import kinds
from dpuchain.api.resource import Resource

CHAINS = "/apis/svc.dpu.nvidia.com/v1alpha1"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (kinds.POD.path(), "/api/v1/pods"),
        (kinds.POD.path("ns"), "/api/v1/namespaces/ns/pods"),
        (kinds.POD.path("ns", "p", "eviction"), "/api/v1/namespaces/ns/pods/p/eviction"),
        (kinds.NODE.path(), "/api/v1/nodes"),
        (kinds.NODE.path(name="dpu-1"), "/api/v1/nodes/dpu-1"),
        (kinds.NODE.path("ignored", "dpu-1"), "/api/v1/nodes/dpu-1"),
        (kinds.SERVICE_CHAIN.path(), f"{CHAINS}/servicechains"),
        (kinds.SERVICE_CHAIN.path("ns"), f"{CHAINS}/namespaces/ns/servicechains"),
        (kinds.SERVICE_CHAIN.path("ns", "c"), f"{CHAINS}/namespaces/ns/servicechains/c"),
        (kinds.SERVICE_CHAIN.path("ns", "c", "status"), f"{CHAINS}/namespaces/ns/servicechains/c/status"),
    ],
)
def test_path(path: str, expected: str) -> None:
    assert path == expected


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        (kinds.POD, "v1"),
        (kinds.DAEMON_SET, "apps/v1"),
        (kinds.DPU_SERVICE, "svc.dpu.nvidia.com/v1alpha1"),
        (kinds.DPU_CLUSTER, "provisioning.dpu.nvidia.com/v1alpha1"),
        (kinds.DPF_OPERATOR_CONFIG, "operator.dpu.nvidia.com/v1alpha1"),
    ],
)
def test_api_version(resource: Resource[object], expected: str) -> None:  # type: ignore[type-var]  # any kind will do
    assert resource.api_version == expected
