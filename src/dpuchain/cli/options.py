"""Options and beginnings that the long-running commands share."""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import uuid
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import click
import structlog

from dpuchain.api.kinds import DPU_SERVICE, DPU_SERVICE_CHAIN, DPU_SERVICE_INTERFACE
from dpuchain.api.names import OPERATOR_NAMESPACE
from dpuchain.api.resource import Resource
from dpuchain.kube.client import Client
from dpuchain.kube.errors import KubeError
from dpuchain.kube.kubeconfig import InvalidKubeconfig, found, namespace_in, read
from dpuchain.kube.leases import LeadershipLost
from dpuchain.runtime import process
from dpuchain.runtime.endpoints import Endpoints

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


_LOG_FORMAT = f"{__name__}.log_format"
"""Under which a command's context has how its logs are to look."""
_log = structlog.get_logger(__name__)


def _remember_format(context: click.Context, _: click.Parameter, chosen: str | None) -> None:
    context.meta[_LOG_FORMAT] = chosen


def common(command: F) -> F:
    """Add the options that every process has; each can be set by its environment variable too. Its addresses become `endpoints`."""

    @functools.wraps(command)
    def with_endpoints(health_address: str, metrics_address: str, metrics_certificate: Path | None, **given: Any) -> Any:
        return command(endpoints=Endpoints(health_address, metrics_address, metrics_certificate), **given)

    wrapped: Any = with_endpoints
    for option in (
        click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True),
        click.option(
            "--log-format",
            type=click.Choice(["json", "text"]),
            expose_value=False,
            callback=_remember_format,
            help="One JSON object a line, or text for people.  [default: text on a terminal, else json]",
        ),
        click.option(
            "--health-address",
            default="",
            metavar="HOST:PORT",
            help="Where to answer /healthz and /readyz, by HTTP, to everybody; nowhere if empty.",
        ),
        click.option(
            "--metrics-address",
            default="",
            metavar="HOST:PORT",
            help="Where to answer /metrics, by HTTPS, to whom the API server lets get that URL; nowhere if empty.",
        ),
        click.option(
            "--metrics-certificate",
            type=click.Path(path_type=Path, file_okay=False),
            metavar="FOLDER",
            help="Where tls.crt and tls.key are for it; they may be exchanged at any time.  [default: make one that nobody vouches for]",
        ),
        click.option(
            "--kubeconfig",
            type=click.Path(path_type=Path, dir_okay=False),
            help="How to reach the API server; as a pod, the pod's service account is used if this is absent.",
        ),
    ):
        wrapped = option(wrapped)
    return cast("F", wrapped)


def cluster(command: F) -> F:
    """Add the options by which a person's command finds its clusters, as kubectl has them."""
    for option in (
        click.option("-n", "--namespace", default="", help=f"Namespace.  [default: the context's, else {OPERATOR_NAMESPACE}]"),
        click.option("--context", default="", help="Context of the kubeconfig.  [default: its current one]"),
        click.option(
            "--kubeconfig",
            type=click.Path(path_type=Path, dir_okay=False),
            help="How to reach the host cluster.  [default: $KUBECONFIG, else ~/.kube/config]",
        ),
    ):
        command = option(command)
    return command


output = click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Text for people, or JSON for programs."
)


@dataclass(frozen=True)
class Source:
    """Where the host cluster is, and which namespace is meant."""

    content: Mapping[str, Any]
    context: str | None
    namespace: str


def kubeconfig(kubeconfig: Path | None, context: str, namespace: str) -> Source:
    """What the options of `cluster` say. Ends the command with a sentence if the kubeconfig cannot be used."""
    try:
        content = found(kubeconfig, os.environ)
        read(content, context or None)
    except InvalidKubeconfig as error:
        raise click.ClickException(str(error)) from error
    return Source(content, context or None, namespace or namespace_in(content, context or None) or OPERATOR_NAMESPACE)


def wait(work: Coroutine[Any, Any, T]) -> T:
    """Do a person's command to its end. What a cluster refuses ends it with a sentence, and an interrupt without one."""
    try:
        return asyncio.run(work)
    except* KubeError as group:
        raise click.ClickException("; ".join(dict.fromkeys(_leaves(group)))) from group
    except* click.ClickException as group:
        raise next(error for error in _errors(group) if isinstance(error, click.ClickException)) from group
    except* KeyboardInterrupt:
        raise SystemExit(130) from None


def _errors(group: BaseExceptionGroup[Any]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _errors(error)
        else:
            yield error


def _leaves(group: BaseExceptionGroup[Any]) -> Iterator[str]:
    return (str(error) for error in _errors(group))


def complete_names(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """The names that `describe` could be given next; none if the cluster does not tell them."""
    kinds: dict[str, Resource[Any]] = {"chain": DPU_SERVICE_CHAIN, "interface": DPU_SERVICE_INTERFACE, "service": DPU_SERVICE}
    resource = kinds.get(str(context.params.get("kind")))
    if resource is None:
        return []
    given = context.params
    try:
        source = kubeconfig(given.get("kubeconfig"), given.get("context") or "", given.get("namespace") or "")
        names = asyncio.run(_names(source, resource))
    except (click.ClickException, KubeError):
        return []
    return [name for name in names if name.startswith(incomplete)]


async def _names(source: Source, resource: Resource[Any]) -> list[str]:
    async with Client.from_kubeconfig(source.content, context=source.context, user_agent="dpuchain") as client:
        listing = await client.list(resource, namespace=source.namespace)
    return sorted(item.metadata.name for item in listing.items)


leader_elect = click.option(
    "--leader-elect",
    is_flag=True,
    help="Work only while holding a Lease in dpf-operator-system, so that replicas take turns.",
)


def identity(elected: bool) -> str | None:
    """Who this replica is in an election: different for each process; None where there is no election."""
    return f"{socket.gethostname()}_{uuid.uuid4()}" if elected else None


def client(kubeconfig: Path | None, component: str) -> Client:
    """The client for the API server. Ends the command with a sentence if the kubeconfig cannot be used."""
    agent = f"dpuchain-{component}"
    try:
        if kubeconfig is None:
            return Client.from_pod(os.environ, user_agent=agent)
        return Client.from_kubeconfig(kubeconfig, user_agent=agent)
    except InvalidKubeconfig as error:
        raise click.ClickException(str(error)) from error


def run(main: Callable[[], Coroutine[Any, Any, None]], log_level: str, traced: Mapping[str, str] | None = None) -> None:
    """Run a process until it is told to end. An address or a file that cannot be used ends it with a line in its log.

    `traced` is what traces say of a process that takes part in them.
    """
    try:
        process.run(main, log_level=log_level, log_format=click.get_current_context().meta[_LOG_FORMAT], traced=traced)
    except* (OSError, ValueError, LeadershipLost) as group:
        _log.critical("the process ends", error="; ".join(str(error) for error in group.exceptions))
        raise SystemExit(1) from None
