"""Interfaces among each other."""

from __future__ import annotations

from tests.admission_cases.case import BOTH, FW, OWNED, PCI, Case, patch, pf, vlan
from tests.worlds import (
    ZONE_A,
    ZONE_B,
    cluster,
    interface,
    physical,
)

PORTS = [
    Case("an interface alone", interface("p0"), silent=True),
    Case("another port", interface("p1"), host=(interface("p0"),), silent=True),
    Case("one port twice", interface("two", physical("p0")), host=(interface("p0"),), refused=(BOTH, *OWNED, "on nodes dpu-1, dpu-2")),
    Case(
        "one port twice, seen from the other side",
        interface("p0"),
        host=(interface("two", physical("p0")),),
        refused=("DPUServiceInterface ns/p0 conflicts with DPUServiceInterface ns/two", *OWNED),
    ),
    Case(
        "one port twice, on the nodes that both select",
        interface("two", physical("p0"), nodes=ZONE_A),
        host=(interface("p0"),),
        refused=(BOTH, "on node dpu-1:"),
    ),
    Case("one port on different nodes", interface("two", physical("p0"), nodes=ZONE_A), host=(interface("p0", nodes=ZONE_B),), silent=True),
    Case(
        "one port in different clusters",
        interface("two", physical("p0"), clusters=ZONE_B),
        host=(cluster("north", zone="a"), interface("p0", clusters=ZONE_A)),
        warned=("no DPUCluster is selected now",),
    ),
    Case(
        "a port changed to one that is taken",
        interface("two", physical("p0")),
        interface("two"),
        (interface("p0"),),
        refused=(BOTH, *OWNED),
    ),
    Case(
        "nodes changed to those of another owner",
        interface("two", physical("p0")),
        interface("two", physical("p0"), nodes=ZONE_B),
        (interface("p0", nodes=ZONE_A),),
        refused=(BOTH, "on node dpu-1:"),
    ),
    Case("a port changed to a free one", interface("two", physical("p7")), interface("two"), (interface("p0"),), silent=True),
    Case(
        "a physical port and a PF with its name",
        interface("two", physical("pf0hpf")),
        host=(interface("p0", pf(0)),),
        refused=("port pf0hpf is owned",),
    ),
    Case(
        "two PFs of one NIC by its address",
        interface("two", pf(0, **PCI)),
        host=(interface("p0", pf(0, **PCI)),),
        refused=(BOTH, "0000:03:00"),
    ),
    Case("PFs of two NICs", interface("two", pf(0, **PCI)), host=(interface("p0", pf(0)),), silent=True),
    Case("two VFs", interface("two", {"interfaceType": "vf", "vf": {"pfID": 0, "vfID": 3}}), host=(interface("p0", pf(0)),), silent=True),
    Case(
        "one VLAN twice",
        interface("two", vlan("p0")),
        host=(interface("p0"), interface("v", vlan("p0"))),
        refused=("VLAN 5 of ServiceInterface",),
    ),
    Case("two VLANs of a port", interface("two", vlan("p0", 6)), host=(interface("p0"), interface("v", vlan("p0"))), silent=True),
    Case("a VLAN on a service's interface", interface("two", vlan("fw-in")), host=FW, refused=("is of type service; use one of",)),
    Case(
        "a VLAN whose parent may still come",
        interface("two", vlan("p0")),
        warned=("no ServiceInterface of this node in namespace ns has this",),
    ),
    Case(
        "a VLAN with a number that is none",
        interface("two", vlan("p0", 4095)),
        host=(interface("p0"),),
        refused=("4095 is not the number of a VLAN",),
    ),
    Case(
        "two patches of one name",
        interface("two", patch(peerPatchName="x")),
        host=(interface("p0", patch(peerPatchName="x")),),
        refused=(BOTH,),
    ),
    Case("two patches to one bridge", interface("two", patch()), host=(interface("p0", patch()),), silent=True),
    Case(
        "dpf-id of a patch's peer", interface("two", patch(peerExternalIDs={"dpf-id": "me"})), refused=("external ID dpf-id is a reserved",)
    ),
    Case("other ids of a patch's peer", interface("two", patch(peerExternalIDs={"owner": "me"})), silent=True),
    Case(
        "dpf-id added to a patch",
        interface("two", patch(peerExternalIDs={"dpf-id": "a"})),
        interface("two", patch()),
        refused=("dpf-id is a reserved",),
    ),
    Case(
        "a patch to the bridge of the chains", interface("two", patch(peerBridge="br-sfc")), refused=("is the bridge of the chains itself",)
    ),
]
"""Interfaces among each other."""
