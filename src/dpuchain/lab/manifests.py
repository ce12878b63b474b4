"""What a rack's clusters hold before anybody applies anything: as values."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from dpuchain.api.crds import DPU_KINDS, HOST_KINDS, manifests
from dpuchain.api.kinds import DPF_OPERATOR_CONFIG, DPU_CLUSTER, NETWORK_ATTACHMENT_DEFINITION, SECRET
from dpuchain.api.names import OPERATOR_CONFIG_NAME, OPERATOR_NAMESPACE
from dpuchain.lab.network import HIGH_SPEED_MTU

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dpuchain.api.resource import Resource

    Manifest = dict[str, Any]

NETWORK = "mybrsfc"
"""The network that the document's interfaces name."""
NAMESPACE: Manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OPERATOR_NAMESPACE}}


def host_definitions() -> list[Manifest]:
    """Return what the host cluster gets first: its kinds and the operator's namespace."""
    return [*manifests(HOST_KINDS), NAMESPACE]


def dpu_definitions() -> list[Manifest]:
    """Return what each DPU cluster gets first: its kinds, Multus' kind and the operator's namespace."""
    return [*manifests(DPU_KINDS), network_attachment_definition(), NAMESPACE]


def operator_configuration() -> Manifest:
    """Return the settings of the installation, for the host cluster."""
    spec = {"networking": {"highSpeedMTU": HIGH_SPEED_MTU}, "deploymentMode": "zero-trust"}
    return _manifest(DPF_OPERATOR_CONFIG, OPERATOR_CONFIG_NAME, spec=spec)


def dpu_cluster(name: str, version: str, kubeconfig: Mapping[str, Any]) -> list[Manifest]:
    """Return the DPUCluster of that name and the Secret with its kubeconfig, for the host cluster."""
    secret = f"{name}-admin-kubeconfig"
    spec = {"type": "static", "version": version, "kubeconfig": secret}
    return [
        _manifest(SECRET, secret, type="Opaque", stringData={"admin.conf": json.dumps(kubeconfig)}),
        _manifest(DPU_CLUSTER, name, spec=spec),
    ]


def network() -> Manifest:
    """Return the network whose interfaces are ports of br-sfc, for each DPU cluster: Multus hands them to our CNI plugin."""
    configuration = {"cniVersion": "1.1.0", "name": NETWORK, "type": "dpuchain-cni"}
    return _manifest(NETWORK_ATTACHMENT_DEFINITION, NETWORK, spec={"config": json.dumps(configuration)})


def _manifest(resource: Resource[Any], name: str, **content: object) -> Manifest:
    metadata = {"name": name, "namespace": OPERATOR_NAMESPACE}
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, **content}


def network_attachment_definition() -> Manifest:
    """Return the definition of the kind that Multus reads, as its working group specifies it."""
    resource = NETWORK_ATTACHMENT_DEFINITION
    config = {"type": "string", "description": "CNI configuration, as JSON."}
    properties = {"spec": {"type": "object", "properties": {"config": config}}}
    schema = {"type": "object", "description": "A network that pods may be attached to.", "properties": properties}
    version = {
        "name": resource.version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
    }
    names = {
        "kind": resource.kind,
        "plural": resource.plural,
        "singular": resource.plural.removesuffix("s"),
        "shortNames": ["net-attach-def"],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.plural}.{resource.group}"},
        "spec": {"group": resource.group, "scope": "Namespaced", "names": names, "versions": [version]},
    }
