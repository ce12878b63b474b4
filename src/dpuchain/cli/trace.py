"""`dpuchain trace`."""

from __future__ import annotations

from dataclasses import dataclass

import click
import msgspec

from dpuchain.cli import options, screen
from dpuchain.cli.fleet import PROBER, VIEWER, connected
from dpuchain.flows.packets import FrameError, parse
from dpuchain.flows.trace import Hop, Trace
from dpuchain.kube.errors import Unreachable


def _frame(context: click.Context, parameter: click.Parameter, text: str) -> str:
    try:
        parse(text)
    except FrameError as error:
        raise click.BadParameter(str(error), context, parameter) from error
    return text


@click.command()
@click.option("--from", "begins", required=True, metavar="INTERFACE", help="Where the frame comes in: a DPUServiceInterface, or a port.")
@click.option("--node", required=True, help="The DPU, as a node of its cluster.")
@click.option("--cluster", "in_cluster", default="", help="The DPUCluster of the node, where several have one of its name.")
@click.option("--chain", default="", help="The chain that the interface is meant to be a port of.")
@click.option("--frame", default="icmp", show_default=True, callback=_frame, help='Such as "icmp src=198.51.100.1 dst=198.51.100.2".')
@click.option("--live", is_flag=True, help="Send probe frames through the services that say that they pass them; none leaves the DPU.")
@options.output
@options.cluster
def command(output: str, *, live: bool, **asked: str) -> None:
    """Tell where a frame goes that comes in by an interface of a DPU, hop by hop, forward and back. Without --live nothing is sent.

    At each switch: what the compiled flows say, what the switch itself says, and where the two differ. Ends with status 0 if the frame
    and its answer are delivered.
    """
    where = {name: asked.pop(name) for name in ("kubeconfig", "context", "namespace")}
    found = options.wait(_trace(options.kubeconfig(**where), Asked(**asked, live=live)))  # type: ignore[arg-type]  # click has made a path of kubeconfig
    _show(found, output)
    raise SystemExit(0 if found.verdict == "delivered" else 1)


@dataclass(frozen=True)
class Asked:
    """What the options say."""

    begins: str
    node: str
    in_cluster: str
    chain: str
    frame: str
    live: bool


async def _trace(source: options.Source, asked: Asked) -> Trace:
    method, question, account = ("POST", "probe", PROBER) if asked.live else ("GET", "trace", VIEWER)
    async with connected(source.content, source.context) as fleet:
        agents = await fleet.find_node(asked.node, asked.in_cluster)
        query = {"from": asked.begins, "namespace": source.namespace, "chain": asked.chain, "frame": asked.frame}
        try:
            return await agents.ask(method, asked.node, question, Trace, query, account)
        except Unreachable as error:
            return _unanswered(asked.node, asked.begins, asked.frame, str(error))


def _unanswered(node: str, begins: str, frame: str, error: str) -> Trace:
    """The trace of a DPU of which nothing is known."""
    return Trace(
        node=node,
        begins=begins,
        frame=frame,
        verdict="unknown",
        sentence=f"unknown: {begins} → nobody on {node} can say",
        cause=f"{error}; see whether the agent runs there, and its log",
        forward=Hop(kind="unsure", name=f"the agent of {node}", problems=(error,)),
    )


def _show(found: Trace, output: str) -> None:
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return
    screen.console().print(screen.traced(found))
