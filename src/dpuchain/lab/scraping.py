"""Reading the metrics of processes as Prometheus does: over HTTPS, with the token of an account that may."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import aiohttp

from dpuchain.api.access import SERVICE_ACCOUNT
from dpuchain.api.names import OPERATOR_NAMESPACE
from dpuchain.kube.client import APPLY_PATCH

if TYPE_CHECKING:
    from dpuchain.kube.client import Client

ACCOUNT = "dpuchain-scraper"
TOKEN_SECONDS = 7200
_RBAC = "/apis/rbac.authorization.k8s.io/v1"


async def token(admin: Client) -> str:
    """A token for who may read metrics in a cluster, and nothing else; the account is made if it is missing."""
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": ACCOUNT},
        "rules": [{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}],
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": ACCOUNT},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": ACCOUNT},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": OPERATOR_NAMESPACE}],
    }
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT, "namespace": OPERATOR_NAMESPACE}}
    place = SERVICE_ACCOUNT.path(OPERATOR_NAMESPACE, ACCOUNT)
    for path, item in ((f"{_RBAC}/clusterroles/{ACCOUNT}", role), (f"{_RBAC}/clusterrolebindings/{ACCOUNT}", binding), (place, account)):
        await _apply(admin, path, item)
    return await token_of(admin, ACCOUNT)


async def token_of(admin: Client, account: str) -> str:
    """A token of a service account of ours for the API server."""
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": TOKEN_SECONDS}}
    path = SERVICE_ACCOUNT.path(OPERATOR_NAMESPACE, account, "token")
    return str(json.loads(await admin.request("POST", path, body=json.dumps(request).encode()))["status"]["token"])


async def scrape(address: str, token: str | None) -> tuple[int, str]:
    """Status and text of `/metrics` at `address` ("HOST:PORT"), whoever vouches for its certificate."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    url = f"https://{address}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers, ssl=False) as response:
        return response.status, await response.text()


async def _apply(admin: Client, path: str, item: dict[str, Any]) -> None:
    query = {"fieldManager": "dpuchain-lab", "force": "true"}
    await admin.request("PATCH", path, body=json.dumps(item).encode(), content_type=APPLY_PATCH, query=query)
