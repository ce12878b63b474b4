"""`dpuchain describe`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.live import Live

from dpuchain.api.meta import ObjectKey
from dpuchain.chain.report import Report
from dpuchain.cli import options, screen
from dpuchain.cli.fleet import Fleet, connected
from dpuchain.cli.items import Item, folded, in_order, shown, still
from dpuchain.cli.views import CHAINS, INTERFACES, NodeView, Reports, ServiceView, SetView, View, Wanted
from dpuchain.kube.cache import Cache
from dpuchain.kube.errors import KubeError

REFRESH_SECONDS = 2.0
"""Between two looks at counters, of which nobody tells."""
SETTLE_SECONDS = 0.2
"""After a change, for what comes along with it."""

VIEWS: dict[str, Callable[[Fleet, Wanted], View]] = {
    "chain": lambda fleet, wanted: SetView(fleet, wanted, CHAINS),
    "interface": lambda fleet, wanted: SetView(fleet, wanted, INTERFACES),
    "service": ServiceView,
    "node": NodeView,
}


@click.command()
@click.argument("kind", type=click.Choice(list(VIEWS)))
@click.argument("name", default="", shell_complete=options.complete_names)
@click.option("-A", "--all-namespaces", is_flag=True, help="Look in all namespaces.")
@click.option("-w", "--watch", is_flag=True, help="Go on showing it as it changes, until interrupted.")
@options.output
@options.cluster
def command(kind: str, name: str, *, all_namespaces: bool, watch: bool, output: str, **where: Any) -> None:
    """Show a chain, interface, service or node from its object in the host cluster down to port, link, flows and packets on each DPU.

    KIND is chain, interface, service or node; without a NAME all of them are shown. Nodes with faults come first.
    """
    source = options.kubeconfig(**where)
    wanted = Wanted("" if all_namespaces else source.namespace, name)
    shows = _Json() if output == "json" else _Text(screen.console(), live=watch)
    options.wait(_describe(source, kind, wanted, shows, watch=watch))


class _Json:
    """One JSON document, or one a line while it is watched."""

    everything = True

    def __enter__(self) -> _Json:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, items: Sequence[Item]) -> None:
        click.echo(msgspec.json.format(msgspec.json.encode({"items": items}), indent=2).decode())


class _Text:
    """Trees: on a terminal in their place as they change, elsewhere one after the other."""

    everything = False

    def __init__(self, console: Console, *, live: bool) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False) if live and console.is_terminal else None
        self._before: list[Item] | None = None

    def __enter__(self) -> _Text:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, items: Sequence[Item]) -> None:
        kept = [folded(item) for item in items]
        if self._live is not None:
            self._live.update(screen.trees(kept), refresh=True)
            return
        now = [still(item) for item in kept]
        if now != self._before:
            self._console.print(screen.trees(kept))
        self._before = now


async def read(fleet: Fleet, kind: str, wanted: Wanted, *, everything: bool) -> list[Item]:
    """The trees as they are now; KubeError if the host cluster cannot be read."""
    async with _followed(VIEWS[kind](fleet, wanted)) as view:
        return await _look(fleet, view, everything=everything)


async def _describe(source: options.Source, kind: str, wanted: Wanted, shows: _Json | _Text, *, watch: bool) -> None:
    async with connected(source.content, source.context) as fleet, _followed(VIEWS[kind](fleet, wanted)) as view:
        changed = asyncio.Event()
        for cache in view.caches:
            cache.subscribe(lambda _: changed.set())
            cache.subscribe_failing(changed.set)
        with shows:
            while True:
                changed.clear()
                items = await _look(fleet, view, everything=shows.everything)
                if not items and not watch:
                    where = (
                        f" in namespace {wanted.namespace}; -n names another, -A looks in all"
                        if wanted.namespace and kind != "node"
                        else ""
                    )
                    raise click.ClickException(f"there is no {kind} {wanted.name}{where}" if wanted.name else f"there is no {kind}{where}")
                shows.show(items)
                if not watch:
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(REFRESH_SECONDS):
                        await changed.wait()
                        await asyncio.sleep(SETTLE_SECONDS)


@contextlib.asynccontextmanager
async def _followed(view: View) -> AsyncIterator[View]:
    """A view whose caches run, once each has been read or could not be."""
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(cache.run()) for cache in view.caches]
        try:
            await asyncio.gather(*(_settled(cache) for cache in view.caches))
            failing = view.caches[0].failing if view.caches and isinstance(view, SetView | ServiceView) else None
            if failing is not None:
                raise failing.error
            yield view
        finally:
            for task in running:
                task.cancel()


async def _settled(cache: Cache[Any]) -> None:
    """Return when the cache has been read, or could not be."""
    failed = asyncio.Event()
    cache.subscribe_failing(failed.set)
    waits = [asyncio.ensure_future(cache.synced()), asyncio.ensure_future(failed.wait())]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


async def _look(fleet: Fleet, view: View, *, everything: bool) -> list[Item]:
    """The trees, with what the agents tell of the nodes that are shown, or of all."""
    asked = set(_nodes(view.build({}), everything=everything))
    answers = await asyncio.gather(*(_report(fleet, cluster, node) for cluster, node in asked))
    reports: Reports = dict(zip(asked, answers, strict=True))
    return view.build(reports)


def _nodes(items: Iterable[Item], cluster: ObjectKey | None = None, *, everything: bool) -> list[tuple[ObjectKey, str]]:
    found: list[tuple[ObjectKey, str]] = []
    for item in items:
        here = ObjectKey(item.namespace, item.name) if item.kind == "DPUCluster" else cluster
        nodes = in_order(child for child in item.children if child.kind == "Node")
        if here is not None:
            found += [(here, node.name) for node in (nodes if everything else shown(nodes))]
        found += _nodes((child for child in item.children if child.kind != "Node"), here, everything=everything)
    return found


async def _report(fleet: Fleet, cluster: ObjectKey, node: str) -> Report | str:
    try:
        return await fleet.agents[cluster].report(node)
    except KubeError as error:
        return str(error)
