"""Chains: DPUServiceChain (host cluster) > ServiceChainSet (DPU cluster) > ServiceChain (one node)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta, field

from dpuchain.api.interface import SetStatus
from dpuchain.api.meta import LabelSelector, Model, ObjectMeta, TemplateMeta
from dpuchain.api.rules import CONDITIONS, NAME_LENGTH, Rule

DEFAULT_SERVICE_MTU = 1500

MatchLabels = Annotated[dict[str, str], Meta(min_length=1, max_length=50)]


class Ipam(Model, frozen=True, kw_only=True):
    """Where the addresses of a service's interface come from."""

    match_labels: Annotated[MatchLabels, Meta(description="Labels of the pool that addresses are taken from.")]
    default_gateway: Annotated[bool | None, Meta(description="Whether the pool's gateway is told to the pod.")] = None
    set_default_route: Annotated[bool | None, Meta(description="Whether the pod's default route goes through this interface.")] = None


class ServiceInterfaceReference(Model, frozen=True, kw_only=True):
    """A ServiceInterface, by its labels."""

    match_labels: Annotated[
        MatchLabels,
        Meta(description="Labels that exactly one ServiceInterface on each node must have, in the chain's namespace."),
    ]
    ipam: Annotated[Ipam | None, Meta(description="Addresses for the interface; only for type service.")] = None


class Port(Model, frozen=True, kw_only=True):
    """A port of a switch."""

    service_interface: Annotated[ServiceInterfaceReference, Meta(description="The interface that is the port.")]


class Switch(Model, frozen=True, kw_only=True):
    """Ports among which frames pass."""

    ports: Annotated[
        tuple[Port, ...],
        Meta(
            description="Ports of the switch. Two are a wire, more a learning switch.",
            min_length=1,
            max_length=50,
        ),
    ]
    service_mtu: Annotated[
        int,
        Meta(
            description="MTU of the services' interfaces on the switch, at most the highSpeedMTU of the DPFOperatorConfig. "
            "A change restarts the pods that have an interface on it.",
            ge=1280,
            le=9216,
        ),
    ] = field(name="serviceMTU", default=DEFAULT_SERVICE_MTU)


class ServiceChainSpec(Model, frozen=True, kw_only=True):
    """The switches of a chain on one node."""

    node: Annotated[str | None, Meta(description="Node that the chain is on.")] = None
    switches: Annotated[
        tuple[Switch, ...],
        Meta(description="Switches of the chain, in the order of the traffic.", min_length=1, max_length=50),
    ]


class ServiceChainStatus(Model, frozen=True, kw_only=True):
    """What the agent saw of the chain on its node."""

    conditions: CONDITIONS = ()
    observed_generation: Annotated[int, Meta(description="Generation that the status speaks of.")] = 0


class ServiceChain(Model, frozen=True, kw_only=True):
    """A chain on one node."""

    metadata: ObjectMeta = ObjectMeta()
    spec: ServiceChainSpec
    status: ServiceChainStatus = ServiceChainStatus()


class ServiceChainTemplate(Model, frozen=True, kw_only=True):
    """What each ServiceChain of a set is made from."""

    metadata: Annotated[TemplateMeta, Meta(description="Labels and annotations of each ServiceChain.")] = TemplateMeta()
    spec: Annotated[ServiceChainSpec, Meta(description="Spec of each ServiceChain.")]


class ServiceChainSetSpec(Model, frozen=True, kw_only=True):
    """A chain on each selected node."""

    node_selector: Annotated[LabelSelector | None, Meta(description="Nodes that get the chain; all of them if absent.")] = None
    template: Annotated[ServiceChainTemplate, Meta(description="What is made on each node.")]


class ServiceChainSet(Model, frozen=True, kw_only=True):
    """A chain on each selected node of a DPU cluster."""

    RULES: ClassVar[tuple[Rule, ...]] = (NAME_LENGTH,)

    metadata: ObjectMeta = ObjectMeta()
    spec: ServiceChainSetSpec
    status: SetStatus = SetStatus()


class ServiceChainSetTemplate(Model, frozen=True, kw_only=True):
    """What the ServiceChainSet in each selected DPU cluster is made from."""

    metadata: Annotated[TemplateMeta, Meta(description="Labels and annotations of the ServiceChainSet.")] = TemplateMeta()
    spec: Annotated[ServiceChainSetSpec, Meta(description="Spec of the ServiceChainSet.")]


class DPUServiceChainSpec(Model, frozen=True, kw_only=True):
    """A chain on each selected node of each selected DPU cluster."""

    cluster_selector: Annotated[
        LabelSelector | None, Meta(description="Deprecated: use dpuClusterSelector, which wins where both are set.")
    ] = None
    dpu_cluster_selector: Annotated[
        LabelSelector | None, Meta(description="DPUClusters that get the chain, by their labels; all if absent.")
    ] = None
    template: Annotated[ServiceChainSetTemplate, Meta(description="What is made in each DPU cluster.")]


class DPUServiceChainStatus(Model, frozen=True, kw_only=True):
    """Sums over the DPU clusters."""

    conditions: CONDITIONS = ()
    observed_generation: Annotated[int, Meta(description="Generation that the status speaks of.")] = 0


class DPUServiceChain(Model, frozen=True, kw_only=True):
    """How traffic passes through the interfaces of the DPUs."""

    RULES: ClassVar[tuple[Rule, ...]] = (NAME_LENGTH,)

    metadata: ObjectMeta = ObjectMeta()
    spec: DPUServiceChainSpec
    status: DPUServiceChainStatus = DPUServiceChainStatus()
