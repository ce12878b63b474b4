"""Who may read metrics of a process that has the rights of our charts, as a real API server says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.integration.deploy.conftest import CHARTS, Helm, apply
from tests.integration.deploy.test_rights import GRANTS, as_account

from dpuchain.api.names import OPERATOR_NAMESPACE
from dpuchain.lab.scraping import scrape, token_of
from dpuchain.runtime.endpoints import Endpoints, published
from dpuchain.runtime.metrics import nothing

if TYPE_CHECKING:
    from dpuchain.kube.client import Client
    from dpuchain.lab.cluster import Cluster

PROCESSES = ("dpuchain-host", "dpuchain-admission", "dpuchain-dpu", "dpuchain-agent")


@pytest.fixture
async def accounts(client: Client, helm: Helm) -> None:
    """The rights of both charts; and two accounts: who may read metrics, and who may not."""
    for chart in CHARTS:
        options = ("--set=crds.install=false", "--set=monitoring.prometheus.serviceAccount=watcher")
        items = await helm.rendered(chart, *options, f"--set=monitoring.prometheus.namespace={OPERATOR_NAMESPACE}")
        await apply(client, [item for item in items if item["kind"] in GRANTS])
    for name in ("watcher", "stranger"):
        await apply(client, [{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": OPERATOR_NAMESPACE}}])


async def test_metrics_are_told_to_whom_the_cluster_lets(client: Client, api_server: Cluster, accounts: None) -> None:
    watcher, stranger = await token_of(client, "watcher"), await token_of(client, "stranger")
    for process in PROCESSES:
        own = await as_account(client, api_server, process)
        async with own, published(Endpoints(metrics="127.0.0.1:0"), own, {}, nothing) as port:
            address = f"127.0.0.1:{port}"
            assert [(await scrape(address, token))[0] for token in (None, "nonsense", watcher[:-4] + "AAAA")] == [401, 401, 401]
            name = f"system:serviceaccount:{OPERATOR_NAMESPACE}:stranger"
            assert await scrape(address, stranger) == (403, f"{name} may not get /metrics\n"), process
            status, text = await scrape(address, watcher)
            assert (status, "dpuchain_api_requests_total" in text) == (200, True), process
