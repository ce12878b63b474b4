"""The commands. Each builds a value and then renders it; nothing here decides anything about chains.

A command's module is imported when that command runs and not before, so that an agent carries neither the lab nor text rendering.
"""

from __future__ import annotations

from importlib import import_module
from typing import ClassVar

import click

COMMANDS = {
    "admission": "Refuse objects that cannot work, and warn of those that do not work yet.",
    "agent": "Carry out this node's chains on its Open vSwitch, and answer the CNI.",
    "check": "Go through clusters, agents, switches, CNI, charts, MTU and certificates, and say what is wrong.",
    "cni": "Install the CNI plugin that Multus calls for service pods.",
    "crds": "Print the custom resource definitions.",
    "describe": "Show a chain, interface, service or node down to ports, links, flows and packets.",
    "dpu": "Make the node objects of a DPU cluster from its sets.",
    "host": "Carry chains, interfaces and services from the host cluster to the DPU clusters.",
    "lab": "Raise, use and take down a rack of virtual DPUs on this machine.",
    "plan": "Tell what applying, or deleting, manifests would do.",
    "trace": "Tell where a frame goes that comes in by an interface of a DPU, hop by hop.",
    "uninstall": "Remove what our processes have made themselves, as the chart does when it is uninstalled.",
}
"""Each command, with what `dpuchain --help` says of it; the module of the same name holds it as `command`."""


class LazyGroup(click.Group):
    """A group that imports the module of a command only to run it."""

    known: ClassVar[dict[str, str]] = COMMANDS

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, without importing anything."""
        del ctx
        return sorted(self.known)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command; None if there is none of that name."""
        del ctx
        if cmd_name not in self.known:
            return None
        command = import_module(f"dpuchain.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands, again without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(sorted(self.known.items()))


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dpuchain", message="%(prog)s %(version)s")
def main() -> None:
    """Service function chaining for DPUs."""
