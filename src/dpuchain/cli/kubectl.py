"""`kubectl dpuchain`: the commands for people as a plugin of kubectl, and what kubectl asks to complete them.

kubectl finds a plugin by the name of its program, `kubectl-dpuchain`, and what completes it by `kubectl_complete-dpuchain`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import ClassVar

import click
from click.shell_completion import ShellComplete

from dpuchain.cli import COMMANDS, LazyGroup

FOR_PEOPLE = ("check", "describe", "plan", "trace")
"""Commands that are part of the plugin; the others are processes."""
NO_FILES = ":4"
"""What kubectl takes as the last line: the shell shall not offer files besides (cobra's ShellCompDirectiveNoFileComp)."""


class _Plugin(LazyGroup):
    """The commands for people."""

    known: ClassVar[dict[str, str]] = {name: COMMANDS[name] for name in FOR_PEOPLE}


@click.command(cls=_Plugin, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dpuchain", message="%(prog)s %(version)s")
def plugin() -> None:
    """See what chains are on DPUs, and why traffic goes where it goes."""


def main() -> None:
    """Be `kubectl-dpuchain`."""
    plugin(prog_name="kubectl dpuchain")


def complete() -> None:
    """Be `kubectl_complete-dpuchain`: its last argument is the word that is being typed."""
    click.echo("\n".join([*completions(sys.argv[1:]), NO_FILES]))


def completions(words: Sequence[str]) -> list[str]:
    """What the last of `words` may be, with what it does after a tab."""
    asked = ShellComplete(plugin, {}, "kubectl dpuchain", "")
    found = asked.get_completions(list(words[:-1]), words[-1] if words else "")
    return [f"{item.value}\t{item.help}" if item.help else str(item.value) for item in found if item.type == "plain"]
