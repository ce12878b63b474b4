"""The kubeconfig of a DPU cluster, as a Secret of the host cluster holds it.

Whatever is wrong with one is an InvalidKubeconfig whose text goes on after the name of the Secret's key.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import yaml

from dpuchain.kube.client import Client, Fence
from dpuchain.kube.kubeconfig import FILES, InvalidKubeconfig

KUBECONFIG_KEY = "admin.conf"
"""Key in a DPUCluster's Secret that holds the kubeconfig."""


def kubeconfig_in(data: Mapping[str, str] | None) -> bytes:
    """The kubeconfig in a Secret's data; None stands for a Secret that is not there."""
    if data is None:
        raise InvalidKubeconfig("does not exist, as there is no such Secret; create it")
    if not data.get(KUBECONFIG_KEY):
        raise InvalidKubeconfig("does not exist or is empty; put the kubeconfig there")
    try:
        return base64.b64decode(data[KUBECONFIG_KEY], validate=True)
    except binascii.Error:
        raise InvalidKubeconfig("is not base64") from None


def client_by(kubeconfig: bytes, user_agent: str, fence: Fence = lambda: None) -> Client:
    """A client of the cluster that the kubeconfig of a Secret names, whose writes ask `fence`."""
    try:
        content = yaml.safe_load(kubeconfig)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise InvalidKubeconfig("is not YAML") from None  # whose text would quote credentials
    if not isinstance(content, dict):
        raise InvalidKubeconfig("is not a mapping")
    client = Client.from_kubeconfig(content, user_agent=user_agent, fence=fence)
    named = _named_files(content)
    if named:
        raise InvalidKubeconfig(f"names a file ({', '.join(named)}); put the content there with `kubectl config view --raw --flatten`")
    return client


def _named_files(content: Mapping[str, Any]) -> list[str]:
    """The fields of a well-formed kubeconfig that name files.

    They are files of ours, and nothing that a Secret may have sent to a server of its choice.
    """
    parts = [entry[kind] for kind in ("cluster", "user") for entry in content.get(f"{kind}s") or ()]
    return sorted({field for part in parts for field in FILES if part and part.get(field)})
