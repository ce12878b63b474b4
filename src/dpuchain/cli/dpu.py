"""`dpuchain dpu`."""

from __future__ import annotations

from pathlib import Path

import click

from dpuchain.cli import options
from dpuchain.dpu.process import run


@click.command(context_settings={"auto_envvar_prefix": "DPUCHAIN"})
@options.leader_elect
@options.common
def command(kubeconfig: Path | None, health_address: str, log_level: str, *, leader_elect: bool) -> None:
    """Make the node objects of a DPU cluster from its sets, and sum their status up."""
    client = options.client(kubeconfig, "dpu")
    options.run(lambda: run(client, health_address, options.identity(leader_elect)), log_level)
