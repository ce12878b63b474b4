"""Options and beginnings that the long-running commands share."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click

from dpuchain.kube.client import Client
from dpuchain.kube.kubeconfig import InvalidKubeconfig
from dpuchain.kube.leases import LeadershipLost
from dpuchain.runtime import process

F = TypeVar("F", bound=Callable[..., Any])


def common(command: F) -> F:
    """Add the options that every process has; each can be set by its environment variable too."""
    for option in (
        click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True),
        click.option(
            "--health-address",
            default="",
            metavar="HOST:PORT",
            help="Where to answer /healthz, /readyz and /metrics; nowhere if empty.",
        ),
        click.option(
            "--kubeconfig",
            type=click.Path(path_type=Path, dir_okay=False),
            help="How to reach the API server; as a pod, the pod's service account is used if this is absent.",
        ),
    ):
        command = option(command)
    return command


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


def run(main: Callable[[], Coroutine[Any, Any, None]], log_level: str) -> None:
    """Run a process until it is told to end. An address or a file that cannot be used ends it with a sentence."""
    try:
        process.run(main, log_level=log_level)
    except* (OSError, ValueError, LeadershipLost) as group:
        raise click.ClickException("; ".join(str(error) for error in group.exceptions)) from group
