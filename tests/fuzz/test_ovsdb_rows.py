"""Invariant: whatever a database says of bridges and ports, its copy shows values that can be decided on, or says that it cannot be read;
and no decision touches a port that does not bear our marks.
"""

from __future__ import annotations

import asyncio
import copy
import json
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dpuchain.agent import patches, pods, ports
from dpuchain.api.meta import ObjectKey
from dpuchain.chain.patches import Peer
from dpuchain.chain.ports import CNI_OWNER, DPF_ID, DPF_TYPE, ROUND, WantedPort
from dpuchain.lab.openvswitch import SCHEMA
from dpuchain.ovs.changes import AddPort, DeletePort, PortChange, SetInterface
from dpuchain.ovs.database import Database
from dpuchain.ovs.errors import Invalid, Unreachable
from dpuchain.ovs.rows import Absent, PortRow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BRIDGE = "br-sfc"
NAMES = st.sampled_from(["p0", "p1", "veth0", "p_brsfc_to_mine", "mine", "br-sfc"]) | st.text(max_size=4)
MARKS = st.sampled_from(["ns/p0", "ns/link", "ns/other", "ns/pod/eth1", "", "/", "a/b/c/d"]) | st.text(max_size=4)
IDS = st.dictionaries(st.sampled_from([DPF_ID, DPF_TYPE, "owner", "contID", "dpuchain-round"]) | st.text(max_size=3), MARKS, max_size=3)
PORT_IDS = IDS | st.sampled_from(
    [dict(CNI_OWNER), {**CNI_OWNER, **ROUND}, *({DPF_TYPE: kind} for kind in ("physical", "vf", "patch", "ovn"))]
)
NUMBERS = st.none() | st.integers(-(2**31), 2**31) | st.integers(-1, 5)
ROWS = st.builds(
    PortRow,
    name=NAMES,
    interface=NAMES,
    type=st.sampled_from(["", "dpdk", "patch", "internal"]),
    ofport=NUMBERS,
    external_ids=PORT_IDS,
    interface_external_ids=IDS,
    error=st.sampled_from(["", "could not open"]),
    link_state=st.sampled_from(["", "up", "down", "dormant"]),
    admin_state=st.sampled_from(["", "up"]),
    mtu=NUMBERS,
    mtu_request=NUMBERS,
    ofport_request=NUMBERS,
    options=st.dictionaries(st.sampled_from(["peer"]), NAMES),
    mac=st.text(max_size=3),
)
BRIDGES = st.dictionaries(st.sampled_from(["br-x", "br-y"]), st.lists(ROWS, max_size=3), max_size=2).flatmap(
    lambda others: st.lists(ROWS, max_size=5).map(lambda rows: {**others, BRIDGE: rows})
)
WANTED = {
    "p0": WantedPort("p0", "ns/p0", ObjectKey("ns", "p0"), 9216, {DPF_TYPE: "physical", **ROUND}),
    "p_brsfc_to_mine": WantedPort(
        "p_brsfc_to_mine", "ns/link", ObjectKey("ns", "link"), None, {DPF_TYPE: "patch", **ROUND}, Peer("br-x", "mine", {"who": "x"})
    ),
}
ATTACHED = {"veth0": pods.Attachment(ObjectKey("ns", "pod"), "eth1", "c", "net", "")}


@given(BRIDGES, st.dictionaries(NAMES, st.integers(1, 5)), st.booleans())
def test_decisions_on_any_rows(found: Mapping[str, list[PortRow]], numbers: dict[str, int], there: bool) -> None:
    bridges = {name: {row.name: row for row in rows} for name, rows in found.items()}
    bridges[BRIDGE] = ports.completed(bridges[BRIDGE], numbers)
    rows = bridges[BRIDGE]
    for mark, observed in ports.by_mark(rows.values()).items():
        assert rows[observed.name].interface_external_ids[DPF_ID] == mark
    assert all(not ports.made_by_cni(rows[name]) for name in ports.claimable(rows))
    additions = [*ports.additions(BRIDGE, rows, WANTED, numbers), *patches.additions(BRIDGE, bridges, WANTED, numbers)]
    for port, changes in additions:
        for change in changes:
            hold(change, bridges, {port.name, *([port.peer.name] if port.peer else [])})
    for name, changes in pods.additions(BRIDGE, rows, ATTACHED, numbers).items():
        for change in changes:
            hold(change, bridges, {name})
    surplus = [
        *ports.surplus(BRIDGE, rows, WANTED),
        *patches.surplus(BRIDGE, bridges, WANTED),
        *pods.surplus(BRIDGE, rows, lambda _: there),
    ]
    for change in [*surplus, *ports.pins(rows)]:
        hold(change, bridges, set())


def hold(change: PortChange, bridges: Mapping[str, Mapping[str, PortRow]], wanted: set[str]) -> None:
    """A port that is not wanted is touched only if it has a mark, and goes only if it was made by an agent, or for a pod."""
    if isinstance(change, AddPort):
        assert change.name in wanted
        return
    row = bridges[change.bridge if isinstance(change, DeletePort) else BRIDGE].get(change.name)
    if row is None:
        assert isinstance(change, SetInterface)
        assert change.name in wanted
        return
    assert change.name in wanted or DPF_ID in row.interface_external_ids or ports.made_by_cni(row)
    if isinstance(change, DeletePort):
        ours = row.external_ids.get(DPF_TYPE) in (*ports.OUR_TYPES, *patches.PATCH_TYPES)
        assert (ours and (DPF_ID in row.interface_external_ids or change.name in wanted)) or ports.made_by_cni(row)
    else:
        assert isinstance(change, SetInterface)


KEYS = {name: str(uuid.UUID(int=number)) for number, name in enumerate(("root", "bridge", "port", "interface"), 1)}
CONTENT: dict[str, Any] = {
    "Open_vSwitch": {KEYS["root"]: {"new": {"bridges": ["uuid", KEYS["bridge"]], "other_config": ["map", [["dpdk-init", "true"]]]}}},
    "Bridge": {KEYS["bridge"]: {"new": {"name": BRIDGE, "ports": ["uuid", KEYS["port"]], "datapath_type": "netdev"}}},
    "Port": {KEYS["port"]: {"new": {"name": "p0", "interfaces": ["uuid", KEYS["interface"]]}}},
    "Interface": {
        KEYS["interface"]: {"new": {"name": "p0", "ofport": 1, "external_ids": ["map", [["dpf-id", "ns/p0"]]], "link_state": "up"}}
    },
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 2**40) | st.text(max_size=4) | st.sampled_from([*KEYS.values(), "uuid", "set", "map"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.sampled_from([*CONTENT, *KEYS.values()]), inner, max_size=2)
    ),
    max_leaves=6,
)
PLACES: list[tuple[str, ...]] = [(table,) for table in CONTENT] + [(table, key) for table, rows in CONTENT.items() for key in rows]
PLACES += [(table, key, "new") for table, rows in CONTENT.items() for key in rows]
PLACES += [(table, key, "new", column) for table, rows in CONTENT.items() for key, row in rows.items() for column in row["new"]]


def changed(changes: list[tuple[tuple[str, ...], Any]]) -> Any:
    content = copy.deepcopy(CONTENT)
    for (*way, last), value in changes:
        place: Any = content
        for name in way:
            place = place.get(name) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place[last] = value
    return content


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@asynccontextmanager
async def server(path: Path, content: bytes) -> AsyncIterator[asyncio.Event]:
    """An ovsdb-server whose database has this content; the event tells that somebody has hung up after he had it."""
    schema = Path(SCHEMA).read_bytes()
    left = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder, pending, told = json.JSONDecoder(), "", False
        while data := await reader.read(65536):
            pending += data.decode()
            while pending:
                try:
                    request, end = decoder.raw_decode(pending)
                except ValueError:
                    break
                pending, method = pending[end:], request["method"]
                told = told or method == "monitor"
                result = {"monitor": content, "get_schema": schema if request["params"][0] == "Open_vSwitch" else None}.get(method)
                error = b"null" if result else b'"unknown"'
                writer.write(b'{"id":%d,"error":%b,"result":%b}' % (request["id"], error, result or b"null"))
        if told:
            left.set()
        writer.close()

    listening = await asyncio.start_unix_server(serve, str(path))
    async with listening:
        yield left


async def copied(directory: Path, content: bytes) -> Any:
    """The ports of the bridge in a copy of a database of this content; None if there is no copy of such a thing."""
    path = directory / f"{uuid.uuid4().hex[:8]}.sock"
    async with server(path, content) as left:
        database = Database(f"unix:{path}")
        running = asyncio.ensure_future(database.run())
        synced, gone = asyncio.ensure_future(database.synced()), asyncio.ensure_future(left.wait())
        await asyncio.wait([running, synced, gone], timeout=10, return_when=asyncio.FIRST_COMPLETED)
        assert not running.done(), running.exception()
        assert synced.done() or gone.done(), "neither read nor given up"
        try:
            return shown(database)
        finally:
            for task in (running, synced, gone):
                task.cancel()
            await asyncio.gather(running, synced, gone, return_exceptions=True)


def shown(database: Database) -> Any:
    try:
        found, bridges = database.ports(BRIDGE), database.bridges()
    except (Unreachable, Invalid):
        return None
    msgspec.json.encode([str(found), *map(str, bridges.items())])
    return None if isinstance(found, Absent) else found


async def test_the_content_that_is_changed_is_good(directory: Path) -> None:
    found = await copied(directory, json.dumps(CONTENT).encode())
    assert found["p0"].interface_external_ids == {DPF_ID: "ns/p0"}


@settings(max_examples=60)  # each with a server of its own
@given(st.lists(st.tuples(st.sampled_from(PLACES), JSON), min_size=1, max_size=3))
@example([(("Port", KEYS["port"], "new", "interfaces"), ["set", []])])
@example([(("Interface",), {})])
@example([(("Bridge", KEYS["bridge"], "new", "ports"), ["set", [["uuid", KEYS["port"]], ["uuid", KEYS["root"]]]])])
async def test_a_database_with_anything_in_it(directory: Path, changes: list[tuple[tuple[str, ...], Any]]) -> None:
    await copied(directory, json.dumps(changed(changes)).encode())
