"""Admission in a DPU cluster: what people make there is judged, and what controllers make is not even asked about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from tests.integration.admission.conftest import Admission, Place, started
from tests.worlds import ZONE_A, ZONE_B, chain_set, interface_set, node, node_chain, node_interface, physical

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Background
    from tests.integration.admission.conftest import Clusters

NODES = (node("dpu-1", zone="a"), node("dpu-2", zone="b"))


@pytest.fixture(scope="module")
def admission(background: Background, clusters: Clusters) -> Iterator[Admission]:
    with started(background, clusters.north, mode="dpu") as running:
        yield running


def labelled(item: Any, **labels: str) -> Any:
    names = {key.replace("_", "-"): value for key, value in labels.items()}
    prefixed = {
        (f"dpuchain.dpu.nvidia.com/{key}" if key.startswith("owner") else f"svc.dpu.nvidia.com/{key}"): value
        for key, value in names.items()
    }
    return msgspec.structs.replace(item, metadata=msgspec.structs.replace(item.metadata, labels={**item.metadata.labels, **prefixed}))


PROJECTED = labelled(interface_set("p0"), owner_uid="u", owner_kind="DPUServiceInterface")
CASES: list[tuple[str, list[Any], Any, str]] = [
    (
        "two sets",
        [interface_set("p0")],
        interface_set("two", physical("p0")),
        "ServiceInterfaceSet ns/two conflicts with ServiceInterfaceSet ns/p0",
    ),
    ("two sets for two ports", [interface_set("p0")], interface_set("two"), ""),
    ("a set and one of the host cluster", [PROJECTED], interface_set("two", physical("p0")), "conflicts with DPUServiceInterface ns/p0"),
    ("a node's interface", [interface_set("p0")], node_interface("two", "dpu-1", physical("p0")), "ServiceInterface ns/two conflicts with"),
    ("a node's interface elsewhere", [interface_set("p0", nodes=ZONE_B)], node_interface("two", "dpu-1", physical("p0")), ""),
    (
        "two chains",
        [interface_set("p0"), chain_set("a", ("p0", "p1"))],
        chain_set("b", ("p0", "p2")),
        "ServiceChainSet ns/b conflicts with",
    ),
    (
        "a node's chain",
        [interface_set("p0"), chain_set("a", ("p0", "p1"))],
        node_chain("b", "dpu-1", ("p0", "p2")),
        "ServiceChain ns/b conflicts with",
    ),
    (
        "chains of different nodes",
        [interface_set("p0"), chain_set("a", ("p0", "p1"), nodes=ZONE_A)],
        node_chain("b", "dpu-2", ("p0", "p2")),
        "",
    ),
    ("a set that the host controller makes", [interface_set("p0")], labelled(interface_set("two", physical("p0")), owner_uid="u"), ""),
    (
        "an object of a set",
        [interface_set("p0")],
        labelled(node_interface("two", "dpu-1", physical("p0")), serviceinterfaceset_name="x"),
        "",
    ),
]


@pytest.mark.parametrize(("name", "others", "new", "words"), CASES, ids=[case[0] for case in CASES])
async def test_case(name: str, others: list[Any], new: Any, words: str, admission: Admission, north: Place) -> None:
    made = [*NODES, *others]
    try:
        await admission.saw([await north.apply(item) for item in made])
        answer = await north.apply(new)
        assert answer.refused == bool(words), answer
        assert words in answer.message
        if not answer.refused:
            made.append(new)
            assert (await north.delete(new)).status < 300, name
    finally:
        for item in reversed(made):
            await north.delete(item)
        await admission.knows(lambda: not admission.world.fleet.sources)
