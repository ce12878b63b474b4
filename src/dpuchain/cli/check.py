"""`dpuchain check`."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import click
import msgspec

from dpuchain.api.crds import DPU_KINDS, HOST_KINDS, Definition
from dpuchain.api.kinds import (
    DPF_OPERATOR_CONFIG,
    DPU_SERVICE,
    DPU_SERVICE_CHAIN,
    DPU_SERVICE_INTERFACE,
    NETWORK_ATTACHMENT_DEFINITION,
    NODE_STATUS,
    SECRET,
    SERVICE_INTERFACE,
)
from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.api.names import ADMISSION_CERTIFICATES_NAME, OPERATOR_CONFIG_NAME, OPERATOR_NAMESPACE
from dpuchain.api.resource import Resource
from dpuchain.chain.report import Report
from dpuchain.cli import options, screen
from dpuchain.cli.checks import ClusterSeen, Finding, Seen, judged
from dpuchain.cli.fleet import Agents, Fleet, Member, connected
from dpuchain.kube.certificates import end_of
from dpuchain.kube.client import Client
from dpuchain.kube.errors import Denied, KubeError, NotFound
from dpuchain.runtime.clock import SystemClock
from dpuchain.runtime.version import VERSION


@click.command()
@options.output
@options.cluster
def command(output: str, **where: Any) -> None:
    """Go through clusters, controllers, agents, Open vSwitch, CNI, charts, MTU, certificates and versions, and say what is wrong.

    Each fault comes with its remedy. Ends with status 1 if there is one; warnings are none.
    """
    source = options.kubeconfig(**where)
    findings = options.wait(_check(source, SystemClock().now()))
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode({"findings": findings}), indent=2).decode())
    else:
        console = screen.console()
        for finding in findings:
            console.print(screen.finding(finding))
    raise SystemExit(1 if any(finding.level == "fault" for finding in findings) else 0)


async def _check(source: options.Source, now: datetime) -> list[Finding]:
    async with connected(source.content, source.context) as fleet:
        return judged(await _seen(fleet), now, VERSION)


async def _seen(fleet: Fleet) -> Seen:
    clusters = await asyncio.gather(*(_member(member, fleet.agents.get(key_of(member.cluster))) for member in fleet.members))
    host = await _cluster("host", fleet.host, HOST_KINDS)
    host = replace(host, expiries={**host.expiries, **await admission_expiry(fleet.host)})
    config = await _config(fleet.host)
    lists = [await _all(fleet.host, kind) for kind in (DPU_SERVICE_CHAIN, DPU_SERVICE_INTERFACE, DPU_SERVICE)]
    return Seen(host, clusters, config, [item for items in lists for item in items])


async def admission_expiry(client: Client) -> dict[str, datetime]:
    """When the certificate that admission has made for itself expires; nothing if there is none, or who asks may read no Secrets."""
    try:
        secret = await client.get(SECRET, ObjectKey(OPERATOR_NAMESPACE, ADMISSION_CERTIFICATES_NAME))
        end = end_of(base64.b64decode(secret.data.get("tls.crt", "")))
    except (NotFound, Denied, ValueError):
        return {}
    return {"admission's certificate": end} if end is not None else {}


async def _config(client: Client) -> Any:
    try:
        return await client.get(DPF_OPERATOR_CONFIG, ObjectKey(OPERATOR_NAMESPACE, OPERATOR_CONFIG_NAME))
    except NotFound:
        return None


async def _member(member: Member, agents: Agents | None) -> ClusterSeen:
    if member.client is None or agents is None:
        return ClusterSeen(member.name, member.problem)
    seen = await _cluster(member.name, member.client, DPU_KINDS)
    if seen.problem is not None:
        return seen
    try:
        nodes = (await member.client.list(NODE_STATUS)).items
        interfaces = await _all(member.client, SERVICE_INTERFACE)
        networks = await _networks(member.client)
    except KubeError as error:
        return ClusterSeen(member.name, str(error))
    names = [node.metadata.name for node in nodes]
    reports = dict(zip(names, await asyncio.gather(*(_report(agents, name) for name in names)), strict=True))
    return replace(seen, nodes=nodes, reports=reports, interfaces=interfaces, networks=networks)


async def _cluster(name: str, client: Client, kinds: Sequence[Definition]) -> ClusterSeen:
    """What is to be known of each cluster."""
    try:
        version = msgspec.json.decode(await client.request("GET", "/version"), type=dict[str, str]).get("gitVersion", "")
        absent = [kind.resource.kind for kind in kinds if not await _defined(client, kind.resource)]
        return ClusterSeen(name, None, version, absent, await client.expiries())
    except KubeError as error:
        return ClusterSeen(name, str(error))


async def _defined(client: Client, resource: Resource[Any]) -> bool:
    try:
        await client.request("GET", resource.path(), query={"limit": "1"})
    except NotFound:
        return False
    return True


async def _all(client: Client, resource: Resource[Any]) -> tuple[Any, ...]:
    """All objects of a kind; none if the kind is not defined, which is told otherwise."""
    try:
        return (await client.list(resource)).items
    except NotFound:
        return ()


class _NetworkSpec(msgspec.Struct):
    config: str = ""


class _Network(msgspec.Struct):
    metadata: dict[str, Any]
    spec: _NetworkSpec = msgspec.field(default_factory=_NetworkSpec)


class _Networks(msgspec.Struct):
    items: list[_Network]


async def _networks(client: Client) -> dict[ObjectKey, str]:
    try:
        body = await client.request("GET", NETWORK_ATTACHMENT_DEFINITION.path())
    except NotFound:
        return {}
    found = msgspec.json.decode(body, type=_Networks).items
    return {ObjectKey(str(item.metadata["namespace"]), str(item.metadata["name"])): item.spec.config for item in found}


async def _report(agents: Agents, node: str) -> Report | str:
    try:
        return await agents.report(node)
    except KubeError as error:
        return str(error)
