"""What people see, to the letter, at 80 and at 160 columns. `python -m tests.unit.cli.test_text` writes the snapshots anew, to be read."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from rich.console import Console, Group, RenderableType

from dpuchain.chain.report import Port
from dpuchain.cli import screen
from dpuchain.cli.checks import Finding
from dpuchain.cli.items import FAULTS_SHOWN, Item, folded, in_order, of_port
from dpuchain.flows.trace import Departure, Hop, Probe, Trace

SNAPSHOTS = Path(__file__).parent / "snapshots"
REASON = "a frame would leave the DPU by p0, which no probe frame may; go by the switch's own answer and `describe`'s counters"
DOWN = "interface p0: link is down; check the cable, or bring the device at its other end up"
UPLINK = Port(interface="dpf/p0-a1", called="p0", type="physical", port="p0", number=2, link="up", mtu=9216, flows=1, entered=7, received=9)
SERVICE = Port(interface="dpf/eth1-a1", called="eth1", type="service", port="veth7ptb55qb017", number=3, link="up", mtu=1500, sent=9)


def node(name: str, *ports: Port, problems: tuple[str, ...] = ()) -> Item:
    below = tuple(map(of_port, ports))
    good = not problems and all(item.ready for item in below)
    state = "Ready" if good else "not Ready (Pending)"
    switch = Item(kind="Switch", name="0", ready=None if good else False, facts={"serviceMTU": 1500}, children=below)
    chain = Item(
        kind="ServiceChain", name=f"chain-{name}", namespace="dpf", ready=good, state=state, facts={"flows": 2}, children=(switch,)
    )
    return Item(kind="Node", name=name, ready=good, state=state, problems=problems, children=(chain,))


def fleet(*nodes: Item) -> Item:
    sets = Item(
        kind="ServiceChainSet", name="chain", namespace="dpf", ready=True, state="Ready", facts={"applied": len(nodes)}, children=nodes
    )
    away = Item(kind="DPUCluster", name="south", ready=False, problems=("cannot be used: admin.conf of Secret dpf/south is not YAML",))
    north = Item(kind="DPUCluster", name="north", children=(sets,))
    return Item(kind="DPUServiceChain", name="chain", namespace="dpf", ready=False, state="not Ready (Pending)", children=(north, away))


def large() -> Item:
    """A thousand nodes, one of them with a link that is down, and one whose agent is away."""
    down = msgspec.structs.replace(UPLINK, link="down", problems=(DOWN,))
    nodes = [node(f"dpu-{number}", UPLINK, SERVICE) for number in range(1, 999)]
    return fleet(*nodes, node("dpu-1000", down, SERVICE), node("dpu-999", problems=("the agent of dpu-999 does not answer",)))


def a_trace(*, broken: bool) -> Trace:
    end = Hop(kind="lost", name="p0", problems=(DOWN,)) if broken else Hop(kind="end", name="p0", interface="dpf/p0-a1")
    first = Hop(
        kind="switch",
        name="switch 0 of ServiceChain dpf/chain-a1",
        enters="eth1 (veth7ptb55qb017)",
        ours=(Departure("p0"),),
        theirs=(Departure("p0"),),
        rules=("table 0: in_port=3, priority 1000, cookie 0xd9c1182c23f70003 → output:2",),
        onward=(end,),
    )
    service = Hop(kind="service", name="service firewall, pod firewall-x7k2p", enters="eth2", onward=(first,))
    second = Hop(
        kind="switch",
        name="switch 1 of ServiceChain dpf/chain-a1",
        enters="pf0hpf",
        ours=(Departure("veth2tqte6kfwhi", (), "eth2"),),
        theirs=(Departure("veth2tqte6kfwhi", (0x100A,), "eth2"),),
        differs="the compiled flows send to eth2 (veth2tqte6kfwhi), the switch does not",
        rules=("table 0: in_port=1, priority 1000, cookie 0xd9c1182c23f70001 → output:4",),
        onward=(service,),
    )
    sentence = "dropped: pf0hpf → lost at p0" if broken else "delivered: pf0hpf → p0, and back"
    frame = "icmp src=198.51.100.1 dst=198.51.100.2"
    verdict = "dropped" if broken else "delivered"
    found = Trace(node="dpu-1", begins="pf0hpf", frame=frame, verdict="unknown", sentence=sentence, forward=second)
    return msgspec.structs.replace(found, verdict=verdict, cause=DOWN if broken else "")


def live() -> Trace:
    through = "service firewall, pod firewall-x7k2p"
    probes = (
        Probe(begins="pf0hpf", through=through, ends=("eth1 (veth7ptb55qb017)",), sent=10, received=9, least=0.16, mean=0.244, most=1.5),
        Probe(begins="eth1 (veth7ptb55qb017)", skipped=REASON),
    )
    return msgspec.structs.replace(a_trace(broken=False), probes=probes)


FINDINGS = (
    Finding(area="cluster", level="ok", text="the host cluster and 1 DPU clusters with 1000 Ready nodes answer"),
    Finding(
        area="agents", level="fault", text=DOWN, where=tuple(f"north/dpu-{n}" for n in range(9)), remedy="see whether it runs, and its log"
    ),
    Finding(area="mtu", level="warning", text="port p0 has MTU 1500", where=("north/dpu-1",), remedy="raise the MTU of p0"),
)
PICTURES: dict[str, Callable[[], RenderableType]] = {
    "describe-large": lambda: screen.trees([folded(large())]),
    "describe-small": lambda: screen.trees([folded(fleet(node("dpu-1", UPLINK, SERVICE)))]),
    "trace-delivered": lambda: screen.traced(a_trace(broken=False)),
    "trace-live": lambda: screen.traced(live()),
    "check": lambda: Group(*map(screen.finding, FINDINGS)),
    "trace-dropped": lambda: screen.traced(a_trace(broken=True)),
}


def drawn(name: str, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False, color_system=None)
    console.print(PICTURES[name]())
    assert isinstance(console.file, io.StringIO)
    return "".join(f"{line.rstrip()}\n" for line in console.file.getvalue().splitlines())


@pytest.mark.parametrize("width", [80, 160])
@pytest.mark.parametrize("name", PICTURES)
def test_text_is_as_it_was_read(name: str, width: int) -> None:
    text = drawn(name, width)
    assert text == (SNAPSHOTS / f"{name}-{width}.txt").read_text()
    assert all(len(line) <= width for line in text.splitlines())


@pytest.mark.parametrize("name", PICTURES)
def test_narrow_terminal_loses_no_word(name: str) -> None:
    def letters(text: str) -> str:
        return "".join(character for character in text if character.isalnum())

    assert letters(drawn(name, 30)) == letters(drawn(name, 500))


def test_no_colours_where_nobody_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    console = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", highlight=False)
    console.print(screen.trees([fleet(node("dpu-1", UPLINK))]))
    assert isinstance(console.file, io.StringIO)
    assert "\x1b[3" not in console.file.getvalue()


def test_nodes_with_faults_come_first_and_the_rest_is_counted() -> None:
    (sets,) = folded(large()).children[0].children
    assert [child.name for child in sets.children] == ["dpu-999", "dpu-1000", "dpu-1", "dpu-2", "996 more Ready"]


def test_faults_that_are_too_many_are_counted_before_the_nodes_without() -> None:
    nodes = [node(f"dpu-{number}", problems=("away",) if number % 2 else ()) for number in range(1, 41)]
    names = [child.name for child in folded(Item(kind="ServiceChainSet", name="x", children=tuple(nodes))).children]
    assert names == [
        *(f"dpu-{2 * number - 1}" for number in range(1, FAULTS_SHOWN + 1)),
        "10 more not Ready",
        "dpu-2",
        "dpu-4",
        "18 more Ready",
    ]


def test_numbers_in_names_are_numbers() -> None:
    names = ["dpu-10", "dpu-9", "a1b", "a1", "7", "dpu"]
    assert [item.name for item in in_order(Item(kind="Node", name=name) for name in names)] == ["7", "a1", "a1b", "dpu", "dpu-9", "dpu-10"]


def test_json_has_the_documented_fields() -> None:
    (sets,) = json.loads(msgspec.json.encode(fleet(node("dpu-1", UPLINK))))["children"][0]["children"]
    (switch,) = sets["children"][0]["children"][0]["children"]
    assert switch["children"] == [
        {
            "kind": "Port",
            "name": "p0",
            "ready": True,
            "facts": {"port": "p0", "ofport": 2, "link": "up", "mtu": 9216, "flows": 1, "flowPackets": 7, "received": 9, "sent": 0},
        }
    ]


if __name__ == "__main__":
    for name in PICTURES:
        for width in (80, 160):
            (SNAPSHOTS / f"{name}-{width}.txt").write_text(drawn(name, width))
