"""What is told of objects, and what may be said to them by annotations: each word once, with its meaning.

The reference is made from this module, and tests hold the code against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from dpuchain.api import names

_SUMMED_UP = "All other conditions of the object are True; the message has what is not."

CONDITIONS: Mapping[str, Mapping[str, str]] = {
    "DPUServiceChain": {
        names.READY: _SUMMED_UP,
        names.CHAIN_SET_RECONCILED: "Each selected DPU cluster has the ServiceChainSet as it should be.",
        names.CHAIN_SET_READY: "Each of these sets is ready: its chain passes on each selected node.",
    },
    "DPUServiceInterface": {
        names.READY: _SUMMED_UP,
        names.INTERFACE_SET_RECONCILED: "Each selected DPU cluster has the ServiceInterfaceSet as it should be.",
        names.INTERFACE_SET_READY: "Each of these sets is ready: its port is there on each selected node.",
    },
    "DPUService": {
        names.READY: _SUMMED_UP,
        names.APPLICATION_PREREQUISITES_RECONCILED: "The object's own fields make sense together.",
        names.DPU_SERVICE_INTERFACE_RECONCILED: "Its interfaces are there, are of its service, and are consumed by it alone.",
        names.CONFIG_PORTS_RECONCILED: "Its configPorts are carried out. They are not supported: where there are any, it is False.",
        names.APPLICATIONS_RECONCILED: "Helm has installed its chart in each selected cluster.",
        names.APPLICATIONS_READY: "What the chart made there runs.",
    },
    "ServiceChainSet": {
        names.READY: _SUMMED_UP,
        names.CHAINS_RECONCILED: "Each selected node has the ServiceChain as it should be, and no other has one.",
        names.CHAINS_READY: "Each of these is ready.",
        names.SERVICE_MTU_APPLIED: "The pods of the chain have the interfaces' MTU that its switches' serviceMTU asks for.",
    },
    "ServiceInterfaceSet": {
        names.READY: _SUMMED_UP,
        names.INTERFACES_RECONCILED: "Each selected node has the ServiceInterface as it should be, and no other has one.",
        names.INTERFACES_READY: "Each of these is ready.",
    },
    "ServiceChain": {
        names.READY: _SUMMED_UP,
        names.CHAIN_RECONCILED: "The switch has every flow of the chain, as was read back, and its ports are up.",
    },
    "ServiceInterface": {
        names.READY: _SUMMED_UP,
        names.INTERFACE_RECONCILED: "The port is on the bridge with a number, and its link is up.",
    },
}
"""The conditions of each kind, with what it means that they are True."""

REASONS: Mapping[str, str] = {
    names.SUCCESS: "It is so.",
    names.PENDING: "It is not so yet. What it waits for is in the message.",
    names.ERROR: "Something is wrong, and will not come right by itself. What it is, and what to do, is in the message.",
    names.FAILURE: "Something that was tried did not come to its end in time.",
    names.AWAITING_DELETION: "The object is being deleted, and waits for what is below it.",
    names.RETRYING: "Something went wrong that may go right the next time.",
    names.BLOCKED: "Something is left to do, and nothing of it can be done before somebody else does their part.",
}
"""The reasons of conditions."""

EventReason = Literal[
    "DeprecatedField",
    "Installed",
    "InvalidSetting",
    "NotInstalled",
    "NotReady",
    "Ready",
    "Repaired",
    "RolledBack",
    "ServiceMTUChanged",
    "Upgraded",
]
"""The reasons of Events: what cannot be said otherwise cannot be recorded."""


class Occasion(NamedTuple):
    """When an Event is recorded: its type, the kinds that it is of, and what has happened."""

    type: Literal["Normal", "Warning", "Normal or Warning"]
    of: str
    text: str


EVENTS: Mapping[EventReason, Occasion] = {
    "DeprecatedField": Occasion("Warning", "DPUServiceChain, DPUServiceInterface", "A field is set that has been replaced by another."),
    "Installed": Occasion("Normal", "DPUCluster", "The host controller has installed the chart dpuchain-dpu there."),
    "InvalidSetting": Occasion("Warning", "DPFOperatorConfig", "A setting cannot be used; what was known before goes on."),
    "NotInstalled": Occasion("Warning", "DPUCluster", "The chart dpuchain-dpu is not installed or upgraded there; why, is in the message."),
    "NotReady": Occasion("Warning", "all", "The object was Ready and is not any more; why, is in the message."),
    "Ready": Occasion("Normal", "all", "The object was not Ready, and is."),
    "Repaired": Occasion(
        "Warning",
        "ServiceChain, ServiceInterface, Pod",
        "Somebody else changed or removed flows or a port; they have been put right. At most one in ten minutes for each object.",
    ),
    "RolledBack": Occasion("Normal", "DPUCluster", "The chart dpuchain-dpu there was newer than the host controller, and was taken back."),
    "ServiceMTUChanged": Occasion("Normal", "Pod", "The pod was evicted, since the MTU of its interfaces is no longer that of its chain."),
    "Upgraded": Occasion("Normal", "DPUCluster", "The chart dpuchain-dpu there was older, had other values, or was changed by somebody."),
}

ANNOTATIONS: Mapping[str, tuple[str, str]] = {
    names.INSTALL_ANNOTATION: ("DPUCluster", "`false`: the host controller does nothing about the chart dpuchain-dpu there."),
    names.MAX_UNAVAILABLE_ANNOTATION: (
        "template of a DPUServiceChain",
        "How many nodes may be without their service at a time while pods restart for a new serviceMTU: a number or a percentage.",
    ),
    names.NOOP_PHYSICAL_REMOVAL_ANNOTATION: ("ServiceInterface", "The physical port stays on the bridge when the interface goes."),
    names.PASSES_PROBES_ANNOTATION: ("Pod", "`true`: the service passes frames of any Ethertype on, those of `trace --live` among them."),
}
"""Annotations that people may set: of which kind, and what each does."""
