"""What an agent tells of its node: values, as it sends them and a person's commands show them. Unknown fields are passed over, so that a
command understands the agent of another version.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from dpuchain.api.meta import Model, ObjectKey

AGENT_PORT = 9801
"""Where an agent answers, unless it was told otherwise."""
ASKER_HEADER = "Dpuchain-Asker"
"""Carries the token of who asks. Not `Authorization`: an API server that passes a request on takes that one off."""
AUDIENCE = "dpuchain-agent"
"""Whom the tokens are for: nobody else takes them."""
ACCESS_GROUP, ACCESS_RESOURCE, PROBES = "dpuchain.dpu.nvidia.com", "agents", "probes"
"""What a right to ask is about: `get` of this resource for everything that only looks, `create` of its subresource for what sends frames;
its name is the node's.
"""


class Port(Model, frozen=True, kw_only=True):
    """An interface of the node and its port. `interface` is the ServiceInterface, `called` what people call it: its DPUServiceInterface,
    `service` the serviceID that it belongs to, if any.

    `number`, `link` and `mtu` are absent while they are not known. Packets are those of the whole port of the bridge, `entered` those that
    met the flows of its switch.
    """

    interface: str
    called: str
    type: str
    service: str = ""
    port: str = ""
    number: int | None = None
    vlan: int | None = None
    link: Literal["up", "down"] | None = None
    mtu: int | None = None
    problems: tuple[str, ...] = ()
    flows: int = 0
    entered: int = 0
    received: int = 0
    sent: int = 0
    dropped: int = 0
    errors: int = 0


class Switch(Model, frozen=True, kw_only=True):
    """A switch of a chain. `mtu` is the smallest that any of its ports has."""

    service_mtu: int
    mtu: int | None = None
    ports: tuple[Port, ...] = ()
    problems: tuple[str, ...] = ()


class Chain(Model, frozen=True, kw_only=True):
    """A ServiceChain of the node: what the latest pass found of it, and its flows. `called` is its DPUServiceChain."""

    chain: str
    called: str
    problems: tuple[str, ...] = ()
    flows: int = 0
    """That should be there."""
    missing: int = 0
    surplus: int = 0
    switches: tuple[Switch, ...] = ()


class Report(Model, frozen=True, kw_only=True):
    """A node as its agent sees it. `problems` are those of the agent itself: what it cannot reach, who works against it."""

    node: str
    version: str
    ovs: str = ""
    bridge: str = ""
    datapath: str = ""
    fail_mode: str = ""
    problems: tuple[str, ...] = ()
    chains: tuple[Chain, ...] = ()
    interfaces: tuple[Port, ...] = ()
    """All interfaces of the node, be they ports of a chain or not."""
    learned: int = 0
    """Entries that switches have learned."""
    foreign: int = 0
    """Flows of the bridge that are not dpuchain's."""

    def port_of(self, interface: ObjectKey) -> Port | None:
        """The interface with this key; None if the agent knows of none."""
        return next((port for port in self.interfaces if port.interface == str(interface)), None)

    def chain_of(self, chain: ObjectKey) -> Chain | None:
        """The chain with this key; None if the agent knows of none."""
        return next((found for found in self.chains if found.chain == str(chain)), None)


def smallest(ports: Sequence[Port]) -> int | None:
    """The smallest MTU of some ports; None if none is known."""
    return min((port.mtu for port in ports if port.mtu is not None), default=None)


def mtu_problems(report: Report) -> Iterator[str]:
    """Where frames of a switch's serviceMTU do not fit: its ports that carry less, besides those of services, which their chain tells."""
    for chain in report.chains:
        for number, switch in enumerate(chain.switches):
            for port in switch.ports:
                if port.type != "service" and port.mtu is not None and port.mtu < switch.service_mtu:
                    yield (
                        f"port {port.port} has MTU {port.mtu}, but switch {number} of {chain.called} has serviceMTU {switch.service_mtu}: "
                        f"larger frames are lost there; raise the MTU of {port.port}, or lower the serviceMTU to {port.mtu}"
                    )
