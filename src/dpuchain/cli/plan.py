"""`dpuchain plan`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from dpuchain.chain.fleet import Fleet
from dpuchain.chain.manifests import FACTS, apply, delete
from dpuchain.cli import live, plan_text
from dpuchain.cli.manifests import Reading, read
from dpuchain.flows.plan import Plan, applied, plan
from dpuchain.kube.errors import KubeError

NOTHING, ERRORS, CHANGES = 0, 1, 2
"""Exit statuses."""


@dataclass(frozen=True)
class Outcome:
    """A plan, and what kept it from being complete: it is none if that was so from the beginning."""

    plan: Plan | None
    faults: Sequence[str]
    ignored: Sequence[str] = ()

    @property
    def status(self) -> int:
        """With which status the command ends."""
        if self.plan is None or self.faults or self.plan.conflicts:
            return ERRORS
        return CHANGES if self.plan else NOTHING


@click.command()
@click.option(
    "-f",
    "--filename",
    "paths",
    multiple=True,
    required=True,
    metavar="PATH",
    help="Manifests: a file, a folder, or - for standard input; may be given several times.",
)
@click.option(
    "--against",
    default="live",
    show_default=True,
    metavar="live|nothing|DIR",
    help="The world before: as the clusters have it now, none, or as a folder of manifests says.",
)
@click.option("--delete", "deleting", is_flag=True, help="Tell what deleting the objects would do, instead of applying them.")
@click.option("-o", "--output", type=click.Choice(["text", "json", "diff"]), default="text", show_default=True, help="How to print it.")
@click.option("-n", "--namespace", default="", help="Namespace of objects that name none.  [default: live, the context's; else default]")
@click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path, dir_okay=False),
    help="How to reach the host cluster.  [default: $KUBECONFIG, else ~/.kube/config]",
)
@click.option("--context", help="Context of the kubeconfig.")
def command(
    paths: tuple[str, ...], against: str, output: str, namespace: str, kubeconfig: Path | None, context: str | None, *, deleting: bool
) -> None:
    """Tell what applying, or deleting, manifests would do.

    Ends with status 0 if there is nothing to do, 2 if there is, and 1 if something would be in conflict, or could not be read.
    """
    outcome = _outcome([Path(path) for path in paths], against, namespace, (kubeconfig, context), deleting=deleting)
    {"text": plan_text.text, "json": plan_text.json, "diff": plan_text.diff}[output](outcome.plan, outcome.faults, outcome.ignored)
    raise SystemExit(outcome.status)


def _outcome(paths: Sequence[Path], against: str, namespace: str, access: tuple[Path | None, str | None], *, deleting: bool) -> Outcome:
    if not namespace and against == "live":
        try:
            namespace = live.namespace(*access)
        except KubeError as error:
            return Outcome(None, [str(error)])
    namespace = namespace or live.DEFAULT_NAMESPACE
    base, missing = _base(against, namespace, access)
    if base is None:
        return Outcome(None, missing)
    reading = read(paths, namespace, base.clusters)
    if reading.faults:
        return Outcome(None, [*missing, *reading.faults])
    return Outcome(of(base, reading, offline=against != "live", deleting=deleting), missing, reading.ignored)


def of(base: Fleet, reading: Reading, *, offline: bool, deleting: bool = False) -> Plan:
    """The plan of what was read. Offline, the clusters, nodes and pods in it are part of the world before."""
    facts = [manifest for manifest in reading.manifests if isinstance(manifest.item, FACTS)] if offline else []
    wanted = [manifest for manifest in reading.manifests if manifest not in facts]
    before = apply(base, facts)
    after = delete(before, wanted) if deleting else apply(before, wanted)
    return plan(before, after, applied(before, after, wanted), frozenset(manifest.ref for manifest in wanted))


def _base(against: str, namespace: str, access: tuple[Path | None, str | None]) -> tuple[Fleet | None, list[str]]:
    """The world before, and what of it is not known; none at all if nothing of it is."""
    if against == "nothing":
        return Fleet(), []
    if against != "live":
        reading = read([Path(against)], namespace)
        return (None, reading.faults) if reading.faults else (apply(Fleet(), reading.manifests), [])
    try:
        world = asyncio.run(live.read(live.client_for(*access)))
    except KubeError as error:
        return None, [str(error)]
    return world.fleet, world.unread
