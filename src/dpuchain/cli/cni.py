"""`dpuchain cni install`: the CNI plugin onto a DPU, from the agent's pod."""

from __future__ import annotations

from pathlib import Path

import click

from dpuchain.cni.install import NAME, install


@click.group(name="cni")
def command() -> None:
    """The CNI plugin that Multus calls for the interfaces of service pods."""


@command.command(name="install")
@click.option(
    "--directory",
    type=click.Path(path_type=Path, exists=True, file_okay=False, writable=True),
    default="/opt/cni/bin",
    show_default=True,
    help="Where the container runtime looks for plugins.",
)
@click.option("--python", default="/usr/bin/python3", show_default=True, help="The interpreter that runs it there.")
def install_command(directory: Path, python: str) -> None:
    """Put the plugin into a directory; nothing is written if it is there already."""
    if not python.startswith("/"):
        raise click.BadParameter(f"{python!r} is no absolute path", param_hint="--python")
    try:
        new = install(directory, python)
    except OSError as error:
        raise click.ClickException(f"{directory / NAME} cannot be written: {error.strerror}") from error
    click.echo(f"{directory / NAME} {'installed' if new else 'is there already'}")
