"""Interfaces: DPUServiceInterface (host cluster) > ServiceInterfaceSet (DPU cluster) > ServiceInterface (one node)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, field

from dpuchain.api.meta import LabelSelector, Model, ObjectMeta, TemplateMeta
from dpuchain.api.rules import CONDITIONS, NAME_LENGTH, Rule

InterfaceType = Literal["vlan", "physical", "pf", "vf", "ovn", "patch", "service"]
FunctionNumber = Annotated[int, Meta(ge=0, le=255)]


class Physical(Model, frozen=True, kw_only=True):
    """An uplink of the DPU."""

    interface_name: Annotated[str, Meta(description="Name of the network device on the DPU, such as p0.")]


class Vlan(Model, frozen=True, kw_only=True):
    """A VLAN on another interface."""

    vlan_id: Annotated[int, Meta(description="VLAN ID of the frames that belong to the interface.")] = field(name="vlanID")
    parent_interface_ref: Annotated[str, Meta(description="Name of the interface that carries the tagged frames.")]


class PciDevice(Model, frozen=True, kw_only=True):
    """A PCI function, by address."""

    address: Annotated[
        str,
        Meta(
            description="PCI address, such as 0000:03:00.0.",
            pattern=r"^[0-9a-f]{4}:[0-9a-f]{2}:[0-1][0-9a-f]\.[0-7]{1}$",
        ),
    ]


class NicSelector(Model, frozen=True, kw_only=True):
    """Which NIC of a DPU with several is meant."""

    RULES: ClassVar[tuple[Rule, ...]] = (Rule("self.type != 'pci' || has(self.pci)", "for type=pci, pci must be set"),)

    type: Annotated[Literal["dpu", "pci"], Meta(description="dpu: the DPU's own NIC; pci: the one at the address in pci.")]
    pci: Annotated[PciDevice | None, Meta(description="The NIC's PCI function, for type pci.")] = None
    controller_number: Annotated[
        FunctionNumber | None,
        Meta(description="Controller behind which the function lives: 0 is the DPU itself, 1 and above its hosts. Taken as 1 if absent."),
    ] = None


IMMUTABLE_NETWORK = Rule("self == oldSelf", "virtualNetwork is immutable")

VirtualNetwork = Annotated[
    str | None,
    Meta(
        description="Virtual network that the interface belongs to. Such an interface cannot be part of a chain.",
        extra_json_schema={"x-kubernetes-validations": [IMMUTABLE_NETWORK.as_schema()]},
    ),
]


class PhysicalFunction(Model, frozen=True, kw_only=True):
    """A physical function of the host, seen on the DPU through its representor."""

    pf_id: Annotated[FunctionNumber, Meta(description="Number of the physical function.")] = field(name="pfID")
    virtual_network: VirtualNetwork = None
    nic_selector: Annotated[NicSelector | None, Meta(description="Which NIC, where there are several.")] = None


class VirtualFunction(Model, frozen=True, kw_only=True):
    """A virtual function of the host, seen on the DPU through its representor."""

    pf_id: Annotated[FunctionNumber, Meta(description="Number of the physical function that it belongs to.")] = field(name="pfID")
    vf_id: Annotated[FunctionNumber, Meta(description="Number of the virtual function.")] = field(name="vfID")
    parent_interface_ref: Annotated[str | None, Meta(description="Kept for compatibility; has no effect.")] = None
    virtual_network: VirtualNetwork = None
    nic_selector: Annotated[NicSelector | None, Meta(description="Which NIC, where there are several.")] = None


class ServicePort(Model, frozen=True, kw_only=True):
    """An interface inside the pod of a service."""

    service_id: Annotated[str, Meta(description="serviceID of the DPUService whose pods have the interface.")] = field(name="serviceID")
    network: Annotated[str, Meta(description="NetworkAttachmentDefinition that wires it, as name or namespace/name.")]
    interface_name: Annotated[str, Meta(description="Name of the interface inside the pod.", min_length=1, max_length=15)]
    virtual_network: VirtualNetwork = None


class Ovn(Model, frozen=True, kw_only=True):
    """A patch to OVN's bridge. Deprecated: use patch."""

    external_bridge: Annotated[str, Meta(description="Bridge to connect to.")] = "br-ovn"


class Patch(Model, frozen=True, kw_only=True):
    """A patch to another bridge of the DPU."""

    peer_bridge: Annotated[str, Meta(description="Bridge to connect to; it must exist.")]
    peer_patch_name: Annotated[
        str | None,
        Meta(description="Name of the port on the other bridge; made from the names of the bridges if absent."),
    ] = None
    peer_external_ids: Annotated[
        dict[str, str], Meta(description="external_ids of the port on the other bridge. The key dpf-id is reserved.")
    ] = field(name="peerExternalIDs", default_factory=dict)


class ServiceInterfaceSpec(Model, frozen=True, kw_only=True):
    """One interface on one node: its type and the block of that type."""

    RULES: ClassVar[tuple[Rule, ...]] = tuple(
        Rule(f"self.interfaceType != '{name}' || has(self.{name})", f"for interfaceType={name}, {name} must be set")
        for name in ("vlan", "physical", "pf", "vf", "patch", "service")
    )

    node: Annotated[str | None, Meta(description="Node that the interface is on.")] = None
    interface_type: Annotated[InterfaceType, Meta(description="What the interface is; the block of the same name must be set.")]
    physical: Annotated[Physical | None, Meta(description="An uplink, for type physical.")] = None
    vlan: Annotated[Vlan | None, Meta(description="A VLAN, for type vlan.")] = None
    vf: Annotated[VirtualFunction | None, Meta(description="A virtual function, for type vf.")] = None
    pf: Annotated[PhysicalFunction | None, Meta(description="A physical function, for type pf.")] = None
    service: Annotated[ServicePort | None, Meta(description="A service's interface, for type service.")] = None
    ovn: Annotated[Ovn | None, Meta(description="A patch to OVN's bridge, for type ovn. Deprecated: use patch.")] = None
    patch: Annotated[Patch | None, Meta(description="A patch to another bridge, for type patch.")] = None


class ServiceInterfaceStatus(Model, frozen=True, kw_only=True):
    """What the agent saw of the interface on its node."""

    conditions: CONDITIONS = ()
    observed_generation: Annotated[int, Meta(description="Generation that the status speaks of.")] = 0


class ServiceInterface(Model, frozen=True, kw_only=True):
    """An interface on one node."""

    metadata: ObjectMeta = ObjectMeta()
    spec: ServiceInterfaceSpec
    status: ServiceInterfaceStatus = ServiceInterfaceStatus()


class ServiceInterfaceTemplate(Model, frozen=True, kw_only=True):
    """What each ServiceInterface of a set is made from."""

    metadata: Annotated[TemplateMeta, Meta(description="Labels and annotations of each ServiceInterface.")] = TemplateMeta()
    spec: Annotated[ServiceInterfaceSpec, Meta(description="Spec of each ServiceInterface.")]


class ServiceInterfaceSetSpec(Model, frozen=True, kw_only=True):
    """An interface on each selected node."""

    node_selector: Annotated[LabelSelector | None, Meta(description="Nodes that get the interface; all of them if absent.")] = None
    template: Annotated[ServiceInterfaceTemplate, Meta(description="What is made on each node.")]


class SetStatus(Model, frozen=True, kw_only=True):
    """Sums over the objects that a set has on its nodes."""

    conditions: CONDITIONS = ()
    observed_generation: Annotated[int, Meta(description="Generation that the status speaks of.")] = 0
    number_applied: Annotated[int | None, Meta(description="Objects that exist for the selected nodes.")] = None
    number_ready: Annotated[int | None, Meta(description="Those of them that are Ready.")] = None


class ServiceInterfaceSet(Model, frozen=True, kw_only=True):
    """An interface on each selected node of a DPU cluster."""

    RULES: ClassVar[tuple[Rule, ...]] = (NAME_LENGTH,)

    metadata: ObjectMeta = ObjectMeta()
    spec: ServiceInterfaceSetSpec
    status: SetStatus = SetStatus()


class ServiceInterfaceSetTemplate(Model, frozen=True, kw_only=True):
    """What the ServiceInterfaceSet in each selected DPU cluster is made from."""

    metadata: Annotated[TemplateMeta, Meta(description="Labels and annotations of the ServiceInterfaceSet.")] = TemplateMeta()
    spec: Annotated[ServiceInterfaceSetSpec, Meta(description="Spec of the ServiceInterfaceSet.")]


class DPUServiceInterfaceSpec(Model, frozen=True, kw_only=True):
    """An interface on each selected node of each selected DPU cluster."""

    cluster_selector: Annotated[
        LabelSelector | None, Meta(description="Deprecated: use dpuClusterSelector, which wins where both are set.")
    ] = None
    dpu_cluster_selector: Annotated[
        LabelSelector | None, Meta(description="DPUClusters that get the interface, by their labels; all if absent.")
    ] = None
    template: Annotated[ServiceInterfaceSetTemplate, Meta(description="What is made in each DPU cluster.")]


class DPUServiceInterfaceStatus(Model, frozen=True, kw_only=True):
    """Sums over the DPU clusters."""

    conditions: CONDITIONS = ()
    observed_generation: Annotated[int, Meta(description="Generation that the status speaks of.")] = 0


class DPUServiceInterface(Model, frozen=True, kw_only=True):
    """An interface of the DPUs that chains can refer to by its labels."""

    RULES: ClassVar[tuple[Rule, ...]] = (NAME_LENGTH,)

    metadata: ObjectMeta = ObjectMeta()
    spec: DPUServiceInterfaceSpec
    status: DPUServiceInterfaceStatus = DPUServiceInterfaceStatus()
