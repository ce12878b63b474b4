"""How API servers are told to ask: the ValidatingWebhookConfiguration. Pure."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from dpuchain.admission.server import PATH
from dpuchain.api import kinds
from dpuchain.api.meta import ObjectKey
from dpuchain.api.names import CHAIN_SET_NAME_LABEL, INTERFACE_SET_NAME_LABEL, OWNER_UID_LABEL
from dpuchain.api.resource import Resource

FIELD_OWNER = "dpuchain-admission"
DIGEST_ANNOTATION = "dpuchain.dpu.nvidia.com/registration-digest"
"""Says which content was registered, so that replicas of two versions do not undo each other's."""
TIMEOUT_SECONDS = 5
CHANGES = ("CREATE", "UPDATE")
ALL = (*CHANGES, "DELETE")
"""Deletions are never refused; they are asked about for their warnings."""

Mode = Literal["host", "dpu"]


@dataclass(frozen=True)
class Endpoint:
    """Where API servers find us: by a URL, or by a Service."""

    url: str | None
    service: ObjectKey

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names and addresses that the certificate must be for."""
        if self.url is not None:
            return (urlsplit(self.url).hostname or "",)
        name = f"{self.service.name}.{self.service.namespace}.svc"
        return name, f"{name}.cluster.local"

    def client_config(self, bundle: bytes) -> dict[str, Any]:
        """What the configuration says of it."""
        where: dict[str, Any] = {"url": self.url}
        if self.url is None:
            where = {"service": {"namespace": self.service.namespace, "name": self.service.name, "path": PATH, "port": 443}}
        return {**where, **({"caBundle": base64.b64encode(bundle).decode()} if bundle else {})}


def name_of(mode: Mode) -> str:
    """Name of the configuration."""
    return "dpuchain-admission" if mode == "host" else "dpuchain-admission-dpu"


def configuration(mode: Mode, endpoint: Endpoint, failure_policy: str, bundle: bytes) -> dict[str, Any]:
    """The configuration. In a DPU cluster only what people make there is asked about, as the rest follows from what was."""
    common = {
        "clientConfig": endpoint.client_config(bundle),
        "failurePolicy": failure_policy,
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "matchPolicy": "Equivalent",
        "timeoutSeconds": TIMEOUT_SECONDS,
    }
    webhooks = [{"name": f"{title}.{name_of(mode)}.dpu.nvidia.com", **about, **common} for title, about in _asked(mode)]
    digest = hashlib.sha256(json.dumps(webhooks, sort_keys=True).encode()).hexdigest()[:16]
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": name_of(mode), "annotations": {DIGEST_ANNOTATION: digest}},
        "webhooks": webhooks,
    }


def _asked(mode: Mode) -> Iterable[tuple[str, Mapping[str, Any]]]:
    if mode == "host":
        ours = (kinds.DPU_SERVICE_CHAIN, kinds.DPU_SERVICE_INTERFACE, kinds.DPU_SERVICE)
        yield (
            "host",
            {"rules": [*(_rule(kind, ALL) for kind in ours), _rule(kinds.DPU_CLUSTER, CHANGES), _rule(kinds.DPF_OPERATOR_CONFIG, CHANGES)]},
        )
        return
    sets = (kinds.SERVICE_CHAIN_SET, kinds.SERVICE_INTERFACE_SET)
    yield "sets", {"rules": [_rule(kind, ALL) for kind in sets], "objectSelector": _lacks(OWNER_UID_LABEL)}
    yield "chains", {"rules": [_rule(kinds.SERVICE_CHAIN, ALL)], "objectSelector": _lacks(CHAIN_SET_NAME_LABEL)}
    yield "interfaces", {"rules": [_rule(kinds.SERVICE_INTERFACE, ALL)], "objectSelector": _lacks(INTERFACE_SET_NAME_LABEL)}


def _rule(resource: Resource[Any], operations: Iterable[str]) -> dict[str, Any]:
    return {
        "apiGroups": [resource.group],
        "apiVersions": [resource.version],
        "resources": [resource.plural],
        "operations": list(operations),
        "scope": "Namespaced",
    }


def _lacks(label: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": label, "operator": "DoesNotExist"}]}
