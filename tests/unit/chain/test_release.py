"""From a DPUService to its Helm release."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from dpuchain.api.interface import DPUServiceInterface
from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.api.service import DPUService
from dpuchain.chain.release import config_ports_problem, interface_problems, release_name, release_of, service_id, unsupported

SOURCE = {"repoURL": "https://example.org/charts", "version": "1.0.1", "chart": "example"}
NETWORKS = "k8s.v1.cni.cncf.io/networks"


def service(name: str = "fw", *, source: dict[str, Any] | None = None, values: dict[str, Any] | None = None, **spec: Any) -> DPUService:
    chart = {"source": SOURCE | (source or {}), "values": values or {}}
    return msgspec.convert({"metadata": {"name": name, "namespace": "ns"}, "spec": {"helmChart": chart, **spec}}, DPUService)


def interface(name: str, service_id: str = "fw", network: str = "mybrsfc", used_by: str = "") -> DPUServiceInterface:
    block = {"interfaceType": "service", "service": {"serviceID": service_id, "network": network, "interfaceName": name}}
    return wrapped(name, block, {"dpu.nvidia.com/consumed-by": used_by} if used_by else {})


def wrapped(name: str, block: dict[str, Any], annotations: dict[str, str]) -> DPUServiceInterface:
    spec = {"template": {"spec": {"template": {"spec": block}}}}
    return msgspec.convert({"metadata": {"name": name, "namespace": "ns", "annotations": annotations}, "spec": spec}, DPUServiceInterface)


def by_key(*interfaces: DPUServiceInterface) -> dict[ObjectKey, DPUServiceInterface]:
    return {key_of(item): item for item in interfaces}


def networks(annotation: str | None, *interfaces: DPUServiceInterface) -> Any:
    """The networks annotation that the pods get if the user gave `annotation`."""
    asked: dict[str, Any] = {} if annotation is None else {"serviceDaemonSet": {"annotations": {NETWORKS: annotation}}}
    item = service(serviceID="fw", interfaces=[i.metadata.name for i in interfaces], **asked)
    return json.loads(release_of(item, by_key(*interfaces)).values["serviceDaemonSet"]["annotations"][NETWORKS])


def test_identity_is_given_or_made_from_the_object() -> None:
    assert service_id(service(serviceID="given")) == "given"
    assert len(service_id(service())) == 10
    assert service_id(service()) == service_id(service())
    assert service_id(service()) != service_id(service("other"))


def test_the_release_is_named_after_the_source_or_the_object() -> None:
    assert release_name(service()) == "fw"
    assert release_name(service(source={"releaseName": "mine"})) == "mine"


def test_a_release() -> None:
    release = release_of(service(serviceID="fw", interfaces=["eth1"], values={"memory": "6Gi"}), by_key(interface("eth1")))
    assert (release.name, release.namespace, release.repo_url, release.chart, release.version) == (
        "fw",
        "ns",
        "https://example.org/charts",
        "example",
        "1.0.1",
    )
    attachment = '[{"interface": "eth1", "name": "mybrsfc", "namespace": "ns"}]'
    asked = {"labels": {"svc.dpu.nvidia.com/service": "fw"}, "annotations": {NETWORKS: attachment}}
    assert release.values == {"memory": "6Gi", "serviceDaemonSet": asked}


def test_what_is_asked_of_the_daemon_set_wins_over_the_values_at_every_depth() -> None:
    values = {"serviceDaemonSet": {"labels": {"a": "chart", "b": "chart"}, "extra": 1}, "list": [1]}
    asked = {"labels": {"a": "asked", "svc.dpu.nvidia.com/service": "forged"}, "resources": {"nvidia.com/bf_sf": 2}}
    release = release_of(service(serviceID="fw", values=values, serviceDaemonSet=asked), {})
    assert release.values == {
        "list": [1],
        "serviceDaemonSet": {
            "labels": {"a": "asked", "b": "chart", "svc.dpu.nvidia.com/service": "fw"},
            "extra": 1,
            "resources": {"nvidia.com/bf_sf": 2},
        },
    }


def test_values_of_another_shape_give_way() -> None:
    release = release_of(service(serviceID="fw", values={"serviceDaemonSet": "nonsense"}), {})
    assert release.values["serviceDaemonSet"] == {"labels": {"svc.dpu.nvidia.com/service": "fw"}}


def test_networks_are_sorted_and_may_be_in_another_namespace() -> None:
    assert networks(None, interface("eth2", network="far/net"), interface("eth1")) == [
        {"interface": "eth1", "name": "mybrsfc", "namespace": "ns"},
        {"interface": "eth2", "name": "net", "namespace": "far"},
    ]


@pytest.mark.parametrize(
    "given", ['[{"name": "own", "interface": "eth1", "mac": "02:00:00:00:00:01"}, {"name": "more"}]', '\n [{"name":"x"}]', "  "]
)
def test_networks_as_json_keep_what_the_user_wrote(given: str) -> None:
    users = json.loads(given) if given.strip() else []
    merged = networks(given, interface("eth1"), interface("eth2"))
    assert all(entry in merged for entry in users)
    assert {"interface": "eth2", "name": "mybrsfc", "namespace": "ns"} in merged
    assert [entry.get("interface") for entry in merged].count("eth1") == 1


def test_networks_as_names() -> None:
    assert networks("far/own@eth1, plain", interface("eth1"), interface("eth2")) == [
        {"name": "plain"},
        {"interface": "eth1", "name": "own", "namespace": "far"},
        {"interface": "eth2", "name": "mybrsfc", "namespace": "ns"},
    ]


@pytest.mark.parametrize(
    "given",
    ["[", "[1]", '["a"]', '[{"interface": "eth1"}]', '[{"name": 5}]', '[{"name": "a", "interface": 5}]', "a,,b", "@eth1", "[" * 100_000],
)
def test_networks_that_cannot_be_read_are_named_and_do_no_harm(given: str) -> None:
    (text,) = unsupported(service(serviceID="fw", serviceDaemonSet={"annotations": {NETWORKS: given}}))
    assert text == (
        f"spec.serviceDaemonSet.annotations[{NETWORKS}]: neither a JSON list of objects with a name, nor names with commas; correct it or "
        "leave it out"
    )
    assert networks(given, interface("eth1")) == [{"interface": "eth1", "name": "mybrsfc", "namespace": "ns"}]


def test_the_digest_tells_releases_apart() -> None:
    first, second = release_of(service(), {}), release_of(service(values={"a": 1}), {})
    assert first.digest == release_of(service(), {}).digest
    assert first.digest != second.digest
    assert len(first.digest) <= 63


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (
            service(source={"path": "charts/x"}),
            "spec.helmChart.source.path: charts from git are not supported; publish the chart to a Helm or OCI repository",
        ),
        (service(source={"chart": None}), "spec.helmChart.source.chart: must be set, as the repository may have several charts"),
        (
            service(deployInCluster=True, serviceID="fw", interfaces=["eth1"]),
            "spec.interfaces: a service in the host cluster has no interfaces of DPUs; leave them out, or spec.deployInCluster",
        ),
        (
            service(security={"privileged": False}),
            "spec.security.privileged: false is not enforced; use pod-security.kubernetes.io/enforce on the namespace instead",
        ),
    ],
)
def test_fields_without_effect_are_named(item: DPUService, text: str) -> None:
    assert unsupported(item) == (text,)


def test_nothing_is_said_of_what_works() -> None:
    assert unsupported(service()) == ()
    assert unsupported(service(deployInCluster=True, security={"privileged": True})) == ()
    assert config_ports_problem(service()) is None
    ports = {"ports": [{"name": "http", "port": 80}]}
    assert unsupported(service(configPorts=ports)) == (), "named in a condition of its own"
    assert config_ports_problem(service(configPorts=ports)) == "spec.configPorts: not supported yet; add a Service to the chart"
    assert unsupported(service(source={"repoURL": "oci://example.org/charts/fw", "chart": None})) == ()


def test_every_problem_of_an_interface_in_order() -> None:
    interfaces = by_key(
        wrapped("uplink", {"interfaceType": "physical", "physical": {"interfaceName": "p0"}}, {}),
        interface("foreign", service_id="lb"),
        interface("taken", used_by="other"),
        interface("good", used_by="fw"),
        interface("left", used_by="gone"),
    )
    named = ["absent", "uplink", "foreign", "taken", "good", "left"]
    item = service(serviceID="fw", interfaces=named)
    assert interface_problems(item, interfaces, [item, service("other", serviceID="fw", interfaces=["taken"])]) == (
        "DPUServiceInterface absent not found in namespace ns: create it",
        "wrong service definition in DPUServiceInterface uplink",
        "conflicting ServiceID in DPUServiceInterface foreign",
        "dpuServiceInterface taken is in use by another DPUService",
    )


def test_a_holder_that_no_longer_names_the_interface_does_not_hold_it() -> None:
    item = service(serviceID="fw", interfaces=["eth1"])
    assert interface_problems(item, by_key(interface("eth1", used_by="other")), [service("other", serviceID="x")]) == ()
    assert interface_problems(service(), {}, []) == ()
