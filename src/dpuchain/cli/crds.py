"""`dpuchain crds`: the definitions of the kinds, for whoever installs them by other means than our charts."""

from __future__ import annotations

import click
import yaml

from dpuchain.api.crds import DPU_KINDS, HOST_KINDS, manifests

KINDS = {"host": HOST_KINDS, "dpu": DPU_KINDS, "all": (*HOST_KINDS, *DPU_KINDS)}


@click.command(name="crds")
@click.option("--cluster", type=click.Choice(list(KINDS)), default="all", show_default=True, help="Of which clusters.")
def command(cluster: str) -> None:
    """Print the custom resource definitions, as YAML.

    \b
    dpuchain crds --cluster=host | kubectl apply --server-side -f -
    """
    click.echo(yaml.safe_dump_all(manifests(KINDS[cluster]), sort_keys=False, width=140, allow_unicode=True), nl=False)
