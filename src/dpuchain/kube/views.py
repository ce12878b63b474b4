"""Caches of parts of a cluster that several processes look at."""

from __future__ import annotations

from dpuchain.api.fleet import AgentSettings
from dpuchain.api.kinds import AGENT_SETTINGS
from dpuchain.api.names import AGENT_SETTINGS_NAME, OPERATOR_NAMESPACE
from dpuchain.kube.cache import Cache
from dpuchain.kube.client import Client


def agent_settings_of(client: Client) -> Cache[AgentSettings]:
    """What the agents of a DPU cluster are told: one object, or none."""
    return Cache(client, AGENT_SETTINGS, namespace=OPERATOR_NAMESPACE, field_selector=f"metadata.name={AGENT_SETTINGS_NAME}")
