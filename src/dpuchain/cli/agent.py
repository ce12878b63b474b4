"""`dpuchain agent`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dpuchain.agent.process import Settings, run
from dpuchain.chain.report import AGENT_PORT
from dpuchain.cli import options
from dpuchain.runtime import tracing

RUNTIME = "/var/run/openvswitch"


@click.command(context_settings={"auto_envvar_prefix": "DPUCHAIN"})
@click.option("--node", required=True, help="Name of the Kubernetes node that this DPU is.")
@click.option("--bridge", default="br-sfc", show_default=True, help="Bridge that chains are made on; it must exist.")
@click.option("--ovsdb", default=f"unix:{RUNTIME}/db.sock", show_default=True, help="Where Open vSwitch's database listens.")
@click.option("--openflow", type=click.Path(path_type=Path), help=f"OpenFlow socket of the bridge.  [default: {RUNTIME}/BRIDGE.mgmt]")
@click.option(
    "--address",
    default=f":{AGENT_PORT}",
    show_default=True,
    metavar="HOST:PORT",
    help="Where to answer `dpuchain describe`, `trace` and `check`, by HTTPS, to who may ask; nowhere if empty.",
)
@click.option(
    "--cni-socket",
    type=click.Path(path_type=Path),
    default="/run/dpuchain/cni.sock",
    show_default=True,
    help="Where the CNI plugin reaches the agent.",
)
@click.option(
    "--port-type",
    type=click.Choice(["auto", "system", "dpdk"]),
    default="auto",
    show_default=True,
    help="Type of new ports in Open vSwitch; auto: dpdk where the bridge is on the userspace datapath and Open vSwitch starts DPDK.",
)
@options.common
def command(bridge: str, openflow: Path | None, kubeconfig: Path | None, log_level: str, **places: Any) -> None:
    """Carry out this node's chains on its Open vSwitch, and answer the CNI.

    Flows stay whatever becomes of this process or the API server, unless the DPFOperatorConfig of the host cluster has
    spec.sfcController.secureFlowDeletionTimeout: then all go when the API server has been away that long, or this process has died. The
    host controller tells it to all agents; none of them has an option for it.
    """
    settings = Settings(bridge=bridge, openflow=openflow or Path(RUNTIME, f"{bridge}.mgmt"), **places)
    client = options.client(kubeconfig, "agent")
    options.run(lambda: run(client, settings), log_level, {"service.name": "dpuchain-agent", tracing.NODE: settings.node})
