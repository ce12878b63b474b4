"""What an uninstallation of the host cluster's chart takes away besides what Helm does: what our processes have made themselves.

It works while it holds the host controller's Lease, so that no controller that has not ended yet installs anew what is removed.
"""

from __future__ import annotations

import contextlib
from typing import Any

import structlog

from dpuchain.api.fleet import DPUCluster
from dpuchain.api.kinds import AGENT_SETTINGS, DPU_CLUSTER, LEASE, SECRET, VALIDATING_WEBHOOK_CONFIGURATION
from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.api.names import ADMISSION_CERTIFICATES_NAME, AGENT_SETTINGS_NAME, HOST_LABEL, OPERATOR_NAMESPACE
from dpuchain.api.resource import Resource
from dpuchain.chain.installation import RELEASE
from dpuchain.host.helm import Helm, HelmError
from dpuchain.host.installation import records_in, standing
from dpuchain.host.process import LEASE as HOST_LEASE
from dpuchain.host.turns import TURN
from dpuchain.kube.client import Client
from dpuchain.kube.errors import KubeError, NotFound
from dpuchain.kube.identity import cluster_identity
from dpuchain.kube.kubeconfig import InvalidKubeconfig
from dpuchain.kube.leases import Election
from dpuchain.kube.secrets import client_by, kubeconfig_in

REGISTRATION = ObjectKey("", "dpuchain-admission")
"""The ValidatingWebhookConfiguration of the host cluster."""

_log = structlog.get_logger(__name__)


class Left(Exception):
    """Something could not be removed; the message names each and says what to do."""


async def run(client: Client, helm: Helm, identity: str, *, keep: bool) -> None:
    """Remove it, and with it, unless they are to be kept, the releases in DPU clusters that this host cluster installed. Raises Left."""
    async with client, client.apart() as own:
        election = Election(own, HOST_LEASE, identity)
        await election.lead(lambda: _remove(client.fenced(election.fence), helm, keep=keep))
        await _delete(client, LEASE, HOST_LEASE)


async def _remove(client: Client, helm: Helm, *, keep: bool) -> None:
    host = await cluster_identity(client)
    for resource, key in (
        (VALIDATING_WEBHOOK_CONFIGURATION, REGISTRATION),
        (SECRET, ObjectKey(OPERATOR_NAMESPACE, ADMISSION_CERTIFICATES_NAME)),
        (LEASE, TURN),
    ):
        await _delete(client, resource, key)
    failures = []
    clusters = () if keep else (await client.list(DPU_CLUSTER)).items
    for cluster in clusters:
        try:
            await _remove_from(cluster, client, helm, host)
        except (HelmError, KubeError, InvalidKubeconfig) as error:
            failures.append(f"DPUCluster {key_of(cluster)}: {error}")
    if failures:
        remedy = "mend them or delete the DPUClusters that are gone for good, and uninstall again, or set dpuClusters.uninstall to false"
        raise Left(f"{'; '.join(failures)}: {remedy}")


async def _remove_from(cluster: DPUCluster, client: Client, helm: Helm, host: str) -> None:
    """Remove what this host cluster has made in one DPU cluster, the objects of chains aside."""
    if cluster.spec.kubeconfig is None:
        return
    secret = await client.get(SECRET, ObjectKey(cluster.metadata.namespace, cluster.spec.kubeconfig))
    kubeconfig = kubeconfig_in(secret.data)
    async with client_by(kubeconfig, "dpuchain-uninstall") as there:
        with contextlib.suppress(NotFound):
            key = ObjectKey(OPERATOR_NAMESPACE, AGENT_SETTINGS_NAME)
            settings = await there.get(AGENT_SETTINGS, key)
            if settings.metadata.labels.get(HOST_LABEL) == host:
                await _delete(there, AGENT_SETTINGS, key)
        found = standing(await records_in(there))
        if found is None or found.host != host:
            return
        _log.info("uninstalling", cluster=str(key_of(cluster)), release=f"{OPERATOR_NAMESPACE}/{RELEASE}")
        await helm.uninstall(kubeconfig, OPERATOR_NAMESPACE, RELEASE)
        await _delete(there, LEASE, ObjectKey(OPERATOR_NAMESPACE, RELEASE))  # that of its controller has the same name


async def _delete(client: Client, resource: Resource[Any], key: ObjectKey) -> None:
    with contextlib.suppress(NotFound):
        await client.delete(resource, key)
