"""The page of the commands: what `--help` says, of each."""

from __future__ import annotations

from collections.abc import Iterator

import click
from tools.reference.text import code, page, table

from dpuchain.cli import main
from dpuchain.cli.kubectl import plugin

_INTRODUCTION = """
`dpuchain COMMAND --help` says the same. The commands for people are a plugin of kubectl too: [commands for people](../commands.md) has
examples, and what their JSON has in it.
"""


def commands() -> str:
    """The page."""
    ours = [_section(context) for context in _below(click.Context(main, info_name="dpuchain"))]
    people = ", ".join(code(f"kubectl dpuchain {name}") for name in plugin.list_commands(click.Context(plugin)))
    return page("Command line", _INTRODUCTION.strip() + "\n", *ours, f"## kubectl dpuchain\n\n{people}: as above.\n")


def _below(context: click.Context) -> Iterator[click.Context]:
    """The commands of a group, and of the groups in it."""
    group = context.command
    assert isinstance(group, click.Group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(command, parent=context, info_name=name, **command.context_settings)
        yield inner
        if isinstance(command, click.Group):
            yield from _below(inner)


def _section(context: click.Context) -> str:
    command = context.command
    usage = command.get_usage(context).removeprefix("Usage: ")
    records = [_record(context, option) for option in command.params if isinstance(option, click.Option)]
    options = table(("option", "environment variable", ""), [record for record in records if record is not None])
    text = "\n\n".join(" ".join(part.split()) for part in (command.help or "").replace("\b", "").split("\n\n"))
    return f"## {context.command_path}\n\n```text\n{usage}\n```\n\n{text}\n\n{options if any(records) else ''}"


def _record(context: click.Context, option: click.Option) -> tuple[str, str, str] | None:
    record = option.get_help_record(context)
    if record is None:
        return None
    prefix = context.auto_envvar_prefix if option.allow_from_autoenv else None
    name = f"{prefix}_{(option.name or '').upper()}" if prefix else ""
    return code(record[0]), code(name), record[1].replace("<", "&lt;")
