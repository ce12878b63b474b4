"""`dpuchain lab`."""

from __future__ import annotations

import asyncio
import functools
import signal
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from dpuchain.cli import describe
from dpuchain.cli.fleet import connected
from dpuchain.cli.items import Item, folded
from dpuchain.cli.screen import trees
from dpuchain.cli.views import Wanted
from dpuchain.kube.errors import KubeError
from dpuchain.kube.kubeconfig import found
from dpuchain.lab import control, example, preflight, remains
from dpuchain.lab.errors import LabError
from dpuchain.lab.layout import HOST, Layout, Shape
from dpuchain.lab.network import MOST_DPUS, host_address
from dpuchain.lab.rack import TOOLS
from dpuchain.lab.toolchain import GROUP_OF, Toolchain

USUAL_DIRECTORY = ".lab"
directory_option = click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=USUAL_DIRECTORY,
    show_default=True,
    help="Where the rack keeps its files. A rack in another directory is another rack.",
)


@click.group()
def command() -> None:
    """Raise, use and take down a rack of virtual DPUs on this machine."""


@command.command()
@click.option("--dpus", type=click.IntRange(1, MOST_DPUS), default=2, show_default=True, help="How many DPUs, each with its host.")
@click.option("--clusters", type=click.IntRange(1), default=1, show_default=True, help="How many DPU clusters they are spread over.")
@click.option("--no-example", is_flag=True, help="Leave the rack empty instead of applying the example.")
@directory_option
def up(dpus: int, clusters: int, no_example: bool, directory: Path) -> None:
    """Raise a rack, apply the example and send a ping through its chain.

    On a rack that runs already, what has died of it is brought back. Ctrl-C takes a rack down that is not finished.
    """
    screen = Screen()
    _run(screen, directory, lambda layout: _up(layout, Shape(dpus, clusters), screen, with_example=not no_example))


@command.command()
def build() -> None:
    """Build the control plane that racks and tests run, as far as it is not in the cache. Takes minutes the first time."""
    screen = Screen()

    async def provide() -> None:
        toolchain = Toolchain()
        await preflight.check_build(toolchain, *GROUP_OF)
        await toolchain.provide(*GROUP_OF, report=screen.progress)

    try:
        asyncio.run(provide())
    except LabError as error:
        raise click.ClickException(str(error)) from error


@command.command()
@directory_option
def down(directory: Path) -> None:
    """Take the rack down and remove all that it left on the machine, its files included."""
    screen = Screen()

    async def take_down(layout: Layout) -> None:
        there = await control.down(layout)
        screen.say(f"{layout.directory} is taken down" if there else f"there is no rack in {layout.directory}")

    _run(screen, directory, take_down)


@command.command()
@click.argument("dpu")
@click.option("--new-database", is_flag=True, help="Have Open vSwitch find an empty database, as after an installation.")
@directory_option
def reboot(dpu: str, new_database: bool, directory: Path) -> None:
    """Take the power from a DPU, such as dpu-1, and boot it again; returns when the rack is ready again."""
    screen = Screen()

    async def work(layout: Layout) -> None:
        await control.reboot(layout, dpu, keep_database=not new_database, report=screen.progress)
        screen.progress(f"{dpu} runs again")

    _run(screen, directory, work)


@command.command()
@directory_option
def status(directory: Path) -> None:
    """Show which processes of the rack run, and the tree of what it carries. Ends with status 1 if a process has died."""
    screen = Screen()

    async def show(layout: Layout) -> None:
        events = await control.status(layout)
        for event in events:
            screen.say(f"{event.kind:8}{event.pid:>7}  {event.text}")
        if any(event.kind == "dead" for event in events):
            raise LabError("some processes have died", f"`dpuchain lab up` brings them back; their logs are in {layout.directory}")
        screen.show(await _trees(layout))

    _run(screen, directory, show)


class Screen:
    """What the person at the terminal sees: lines as they come, with the seconds passed, and the trees."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        if not self._console.is_terminal:
            self._console.width = 200  # nobody's window: a file or a pipe takes lines as they are
        self._start = time.monotonic()

    def progress(self, text: str) -> None:
        """Say that something has happened."""
        self._console.print(f"[dim]{time.monotonic() - self._start:6.1f} s[/]  {escape(text)}")

    def say(self, text: str) -> None:
        """Say something as it is."""
        self._console.print(escape(text))

    def show(self, items: list[Item]) -> None:
        """Draw trees."""
        self._console.print(trees(map(folded, items)), soft_wrap=False)


async def _trees(layout: Layout) -> list[Item]:
    """What the rack carries. Raises `LabError`."""
    try:
        async with connected(found(layout.kubeconfig(HOST), {}), None) as fleet:
            kinds = [await describe.read(fleet, kind, Wanted("", ""), everything=False) for kind in ("chain", "service")]
    except* KubeError as group:
        raise LabError("; ".join(str(error) for error in group.exceptions)) from group
    return [item for items in kinds for item in items]


def _run(screen: Screen, directory: Path, work: Callable[[Layout], Coroutine[Any, Any, None]]) -> None:
    """Do something with the rack in a directory, alone; a problem ends the command with its sentence."""
    layout = Layout.at(directory)
    try:
        with control.alone(layout):
            asyncio.run(_until_signal(work(layout)))
    except LabError as error:
        raise click.ClickException(str(error)) from error
    except asyncio.CancelledError:
        screen.say("interrupted")
        raise SystemExit(130) from None


async def _until_signal(work: Coroutine[Any, Any, None]) -> None:
    """Do the work; the first SIGINT or SIGTERM cancels it, and no other disturbs it while it tidies up."""
    task = asyncio.ensure_future(work)
    stop = functools.partial(_cancel_once, task)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    await task


def _cancel_once(task: asyncio.Task[None]) -> None:
    if not task.cancelling():
        task.cancel()


async def _up(layout: Layout, shape: Shape, screen: Screen, *, with_example: bool) -> None:
    preflight.check_machine(layout, shape)
    toolchain = Toolchain()
    await preflight.check_build(toolchain, *TOOLS)
    await toolchain.provide(*TOOLS, report=screen.progress)
    raised = await control.up(layout, shape, screen.progress)
    screen.progress(f"{shape}: up")
    try:
        if with_example:
            await _show_example(layout, shape, screen)
    except asyncio.CancelledError:
        if raised:  # an unfinished rack is not left behind; one that was there before is not ours to remove
            await remains.remove(layout)
        raise
    _say_how_to_go_on(layout, shape, screen)


async def _show_example(layout: Layout, shape: Shape, screen: Screen) -> None:
    try:
        await example.apply(layout, shape, screen.progress)
    except LabError:
        screen.show(await _trees(layout))
        raise
    screen.show(await _trees(layout))
    asked, answer = await example.ping(layout, shape)
    screen.say(f"\nping {asked}, through the chain:\n{answer}\n")


def _say_how_to_go_on(layout: Layout, shape: Shape, screen: Screen) -> None:
    tools = _short(layout.tools)
    host, cluster = _short(layout.kubeconfig(HOST)), _short(layout.kubeconfig(shape.cluster_names[0]))
    screen.say("Go on with:")
    screen.say(f"  {tools}/kubectl --kubeconfig {host} -n dpf-operator-system get dpuservicechains,dpuserviceinterfaces,dpuservices")
    screen.say(f"  {tools}/kubectl --kubeconfig {cluster} -n dpf-operator-system get servicechains,serviceinterfaces,pods -o wide")
    screen.say(f"  {tools}/dpu-1 ovs-ofctl -O OpenFlow14 dump-flows br-sfc")
    if shape.dpus > 1:
        screen.say(f"  {tools}/host-1 busybox ping {host_address(2)}")
    usual = layout.directory == Path(USUAL_DIRECTORY).resolve()
    undo = "make lab-down" if usual else f"dpuchain lab down --directory {_short(layout.directory)}"
    screen.say(f"Logs are in {_short(layout.directory)}. `{undo}` takes the rack down.")


def _short(path: Path) -> Path:
    """Return a path as one would type it here."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
