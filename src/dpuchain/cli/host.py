"""`dpuchain host`."""

from __future__ import annotations

from pathlib import Path

import click

from dpuchain.cli import options
from dpuchain.host.helm import Helm
from dpuchain.host.installation import package
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
@click.option(
    "--dpu-chart",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the chart dpuchain-dpu, which is installed in every DPU cluster; none is if this is absent.",
)
@click.option("--dpu-values", type=click.Path(path_type=Path, dir_okay=False), help="File with the values that it is installed with.")
@options.leader_elect
@options.common
def command(
    helm: str,
    mirrors: dict[str, str],
    endpoints: Endpoints,
    kubeconfig: Path | None,
    log_level: str,
    *,
    leader_elect: bool,
    **dpu: Path | None,
) -> None:
    """Carry chains, interfaces and services from the host cluster to the DPU clusters."""
    client = options.client(kubeconfig, "host")
    try:
        brought = package(dpu["dpu_chart"], dpu["dpu_values"]) if dpu["dpu_chart"] is not None else None
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    identity = options.identity(leader_elect)
    traced = {"service.name": "dpuchain-host"}
    options.run(lambda: run(client, Helm(helm, mirrors, kubeconfig), endpoints, identity, brought), log_level, traced)
