"""`dpuchain dpu`."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import click

from dpuchain.chain.restarts import Limit
from dpuchain.cli import options
from dpuchain.dpu.process import run
from dpuchain.dpu.restarts import Settings
from dpuchain.runtime.endpoints import Endpoints


def _limit(_context: click.Context, _option: click.Parameter, text: str) -> Limit:
    try:
        return Limit.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command(context_settings={"auto_envvar_prefix": "DPUCHAIN"})
@click.option(
    "--max-unavailable",
    default="1",
    show_default=True,
    metavar="NODES|PERCENT%",
    callback=_limit,
    help="How many nodes may be without their service at a time while pods are restarted for a new serviceMTU: of the whole fleet, whose "
    "DPU clusters take turns. A percentage is of this cluster's nodes.",
)
@click.option(
    "--restart-deadline",
    type=click.FloatRange(min=1),
    default=600,
    show_default=True,
    metavar="SECONDS",
    help="How long a node may take to come back before no other is restarted.",
)
@options.leader_elect
@options.common
def command(
    kubeconfig: Path | None,
    endpoints: Endpoints,
    log_level: str,
    *,
    leader_elect: bool,
    max_unavailable: Limit,
    restart_deadline: float,
) -> None:
    """Make the node objects of a DPU cluster from its sets, restart pods for a new serviceMTU, and sum status up."""
    client = options.client(kubeconfig, "dpu")
    settings = Settings(max_unavailable, timedelta(seconds=restart_deadline))
    traced = {"service.name": "dpuchain-dpu"}
    options.run(lambda: run(client, endpoints, options.identity(leader_elect), settings), log_level, traced)
