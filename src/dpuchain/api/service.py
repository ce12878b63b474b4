"""DPUService: a Helm chart that runs on the DPUs, and the interfaces of its pods."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, field

from dpuchain.api.meta import LabelSelector, Model, ObjectMeta
from dpuchain.api.rules import CONDITIONS, NAME_LENGTH, PRESERVE, Rule

PortNumber = Annotated[int, Meta(ge=1, le=65535)]
InterfaceNames = Annotated[tuple[str, ...], Meta(min_length=1, max_length=50)]
IntOrString = Annotated[int | str, Meta(extra_json_schema={"x-kubernetes-int-or-string": True})]


class ChartSource(Model, frozen=True, kw_only=True):
    """Where a chart comes from."""

    repo_url: Annotated[str, Meta(description="URL of the Helm repository, https:// or oci://.", pattern=r"^(oci://|https://).+$")] = field(
        name="repoURL"
    )
    path: Annotated[str | None, Meta(description="Path of the chart in a git repository. Not supported.")] = None
    version: Annotated[str, Meta(description="Version of the chart.", min_length=1)]
    chart: Annotated[str | None, Meta(description="Name of the chart in the repository.")] = None
    release_name: Annotated[str | None, Meta(description="Name of the Helm release; made from the DPUService's name if absent.")] = None


class HelmChart(Model, frozen=True, kw_only=True):
    """A chart and its values."""

    source: Annotated[ChartSource, Meta(description="Where the chart comes from.")]
    values: Annotated[dict[str, Any], Meta(description="Values for the chart, of any shape.", extra_json_schema=PRESERVE)] = field(
        default_factory=dict
    )


class ServiceDaemonSet(Model, frozen=True, kw_only=True):
    """What is asked of the chart's DaemonSet; passed to the chart as the value serviceDaemonSet."""

    node_selector: Annotated[
        dict[str, Any] | None,
        Meta(description="Nodes that the pods run on, as a Kubernetes NodeSelector.", extra_json_schema=PRESERVE),
    ] = None
    update_strategy: Annotated[
        dict[str, Any] | None,
        Meta(description="How pods are replaced, as a DaemonSetUpdateStrategy.", extra_json_schema=PRESERVE),
    ] = None
    labels: Annotated[dict[str, str], Meta(description="Labels of the pods.")] = field(default_factory=dict)
    annotations: Annotated[dict[str, str], Meta(description="Annotations of the pods.")] = field(default_factory=dict)
    resources: Annotated[dict[str, IntOrString], Meta(description="Resources that each pod asks for, such as nvidia.com/bf_sf: 2.")] = (
        field(default_factory=dict)
    )


class ConfigPort(Model, frozen=True, kw_only=True):
    """A port of the service that is reachable from the host cluster."""

    name: Annotated[str, Meta(description="Name of the port.")]
    port: Annotated[PortNumber, Meta(description="Port number.")]
    protocol: Annotated[Literal["TCP", "UDP"], Meta(description="Protocol of the port.")] = "TCP"
    node_port: Annotated[PortNumber | None, Meta(description="Node port, where it is to be fixed.")] = None


class ConfigPorts(Model, frozen=True, kw_only=True):
    """Ports of the service that are reachable from the host cluster. Not supported yet."""

    service_type: Annotated[Literal["NodePort", "ClusterIP", "None"], Meta(description="Type of the Kubernetes Service.")] = "NodePort"
    ports: Annotated[tuple[ConfigPort, ...], Meta(description="The ports.")]


class Security(Model, frozen=True, kw_only=True):
    """Rights of the service's pods."""

    privileged: Annotated[bool | None, Meta(description="Whether the pods may be privileged.")] = None


class DPUServiceSpec(Model, frozen=True, kw_only=True):
    """A service: its chart, its identity and its interfaces."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule("!has(self.interfaces) || has(self.serviceID)", "serviceID must be provided when interfaces are provided"),
    )

    helm_chart: Annotated[HelmChart, Meta(description="The chart that is installed in each selected DPU cluster.")]
    service_id: Annotated[
        str | None, Meta(description="Identity of the service; made from the object if absent and shown in the status.")
    ] = field(name="serviceID", default=None)
    interfaces: Annotated[
        InterfaceNames | None,
        Meta(description="DPUServiceInterfaces of type service, in the same namespace, that the pods have."),
    ] = None
    service_daemon_set: Annotated[ServiceDaemonSet | None, Meta(description="What is asked of the chart's DaemonSet.")] = None
    deploy_in_cluster: Annotated[bool | None, Meta(description="Install in the host cluster instead of the DPU clusters.")] = None
    dpu_cluster_selector: Annotated[
        LabelSelector | None, Meta(description="DPUClusters that get the service, by their labels; all if absent.")
    ] = None
    paused: Annotated[bool | None, Meta(description="Leave everything as it is until unset.")] = None
    config_ports: Annotated[ConfigPorts | None, Meta(description="Ports that are reachable from the host cluster. Not supported yet.")] = (
        None
    )
    security: Annotated[Security | None, Meta(description="Rights of the pods.")] = None


class DPUServiceStatus(Model, frozen=True, kw_only=True):
    """What became of the service in the DPU clusters."""

    conditions: CONDITIONS = ()
    observed_generation: Annotated[int, Meta(description="Generation that the status speaks of.")] = 0
    service_id: Annotated[str | None, Meta(description="Identity of the service in force.")] = field(name="serviceID", default=None)


class DPUService(Model, frozen=True, kw_only=True):
    """A Helm chart that runs on the DPUs."""

    RULES: ClassVar[tuple[Rule, ...]] = (NAME_LENGTH,)

    metadata: ObjectMeta = ObjectMeta()
    spec: DPUServiceSpec
    status: DPUServiceStatus = DPUServiceStatus()
