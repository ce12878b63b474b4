"""`dpuchain host`."""

from __future__ import annotations

from pathlib import Path

import click

from dpuchain.cli import options
from dpuchain.host.helm import Helm
from dpuchain.host.process import run
from dpuchain.runtime.endpoints import Endpoints


def _mirrors(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    mirrors = {}
    for value in values:
        source, _, target = value.partition("=")
        if not source or not target:
            example = "https://charts.example/stable=http://127.0.0.1:8080"
            raise click.BadParameter(f"{value!r} is not URL=MIRROR, such as {example}", context, parameter)
        mirrors[source] = target
    return mirrors


@click.command(context_settings={"auto_envvar_prefix": "DPUCHAIN"})
@click.option("--helm", default="helm", show_default=True, help="The program Helm, version 3.")
@click.option(
    "--chart-mirror",
    "mirrors",
    multiple=True,
    callback=_mirrors,
    metavar="URL=MIRROR",
    help="Fetch the charts of one repository from another place; may be given several times.",
)
@options.leader_elect
@options.common
def command(
    helm: str, mirrors: dict[str, str], endpoints: Endpoints, kubeconfig: Path | None, log_level: str, *, leader_elect: bool
) -> None:
    """Carry chains, interfaces and services from the host cluster to the DPU clusters."""
    client = options.client(kubeconfig, "host")
    traced = {"service.name": "dpuchain-host"}
    options.run(lambda: run(client, Helm(helm, mirrors, kubeconfig), endpoints, options.identity(leader_elect)), log_level, traced)
