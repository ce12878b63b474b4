"""The flows of a node that is only foreseen: compiled as the agent compiles them, on numbers of ports that somebody says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from dpuchain.chain.foresight import Foresight
from dpuchain.chain.problems import Ref
from dpuchain.chain.resolve import resolve
from dpuchain.flows.compile import ChainSwitches, compile_switches
from dpuchain.flows.explain import Names
from dpuchain.flows.identity import number_owners
from dpuchain.flows.model import FlowState


def port_names(foreseen: Foresight) -> list[str]:
    """The names of the ports that the bridge would have; that of a pod's port is its mark."""
    return sorted(port.name for port in foreseen.world.ports.values())


def numbered(names: Iterable[str]) -> dict[str, int]:
    """A number for each port, from 1."""
    return {name: number for number, name in enumerate(sorted(set(names)), start=1)}


def flow_state(foreseen: Foresight, numbers: Mapping[str, int]) -> FlowState:
    """The flows, where each port has the number that `numbers` gives to its name: those of a real bridge make them its own.

    A port that `numbers` does not have has none, and no flow.
    """
    ports = {mark: replace(port, ofport=numbers.get(port.name)) for mark, port in foreseen.world.ports.items()}
    world = replace(foreseen.world, ports=ports)
    resolutions = resolve(foreseen.chains, world)
    return compile_switches([ChainSwitches(chain, found.switch_ports) for chain, found in resolutions.items()], world.reserved)


def names_of(foreseen: Foresight, numbers: Mapping[str, int]) -> Names:
    """What to call ports and chains in the flows: chains by the object that people wrote."""
    owners = number_owners(foreseen.resolutions)
    chains = {number: str(foreseen.origin(Ref("ServiceChain", chain)).key) for chain, number in owners.items()}
    return Names({number: name for name, number in numbers.items()}, chains)
