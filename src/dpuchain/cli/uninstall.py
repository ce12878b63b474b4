"""`dpuchain uninstall`, which the chart runs when it is uninstalled."""

from __future__ import annotations

from pathlib import Path

import click

from dpuchain.cli import options
from dpuchain.host.helm import Helm
from dpuchain.host.uninstallation import Left, run
from dpuchain.runtime.endpoints import Endpoints


@click.command(context_settings={"auto_envvar_prefix": "DPUCHAIN"})
@click.option("--helm", default="helm", show_default=True, help="The program Helm, version 3.")
@click.option("--keep-in-dpu-clusters", "keep", is_flag=True, help="Leave what is installed in DPU clusters.")
@options.common
def command(helm: str, endpoints: Endpoints, kubeconfig: Path | None, log_level: str, *, keep: bool) -> None:
    """Remove what our processes have made themselves, and what the host controller installed in DPU clusters."""
    del endpoints  # it has nothing to tell while it works
    client = options.client(kubeconfig, "uninstall")
    identity = options.identity(elected=True)
    assert identity is not None, "it takes part in an election"
    try:
        options.run(lambda: run(client, Helm(helm, {}, kubeconfig), identity, keep=keep), log_level)
    except* Left as group:
        raise click.ClickException("; ".join(str(error) for error in group.exceptions)) from group
