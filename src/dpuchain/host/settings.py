"""The loop of a DPU cluster's agents: tells them what the DPFOperatorConfig says, which they cannot see."""

from __future__ import annotations

import structlog

from dpuchain.api.fleet import DPFOperatorConfig, DPUCluster
from dpuchain.api.kinds import AGENT_SETTINGS, DPF_OPERATOR_CONFIG
from dpuchain.api.meta import ObjectKey, key_of
from dpuchain.api.names import AGENT_SETTINGS_NAME, HOST_FIELD_OWNER, HOST_LABEL, OPERATOR_NAMESPACE
from dpuchain.chain.project import agent_settings
from dpuchain.host.members import Member
from dpuchain.kube.client import Client
from dpuchain.kube.errors import NotFound
from dpuchain.kube.events import EventRecorder
from dpuchain.kube.patches import needs_apply
from dpuchain.kube.writes import apply_with_namespace
from dpuchain.runtime.clock import Clock
from dpuchain.runtime.controller import Controller
from dpuchain.runtime.host_objects import OPERATOR_CONFIG, HostObjects

_log = structlog.get_logger(__name__)
_KEY = ObjectKey(OPERATOR_NAMESPACE, AGENT_SETTINGS_NAME)


class AgentSettingsLoop:
    """Makes the settings in each DPU cluster what `chain.project` wants. What cannot be understood changes nothing, and is told."""

    def __init__(self, client: Client, objects: HostObjects, host: str, clock: Clock) -> None:
        """`host` is the identity of the host cluster."""
        self._objects = objects
        self._host = host
        self._clock = clock
        self._events = EventRecorder(client, HOST_FIELD_OWNER)
        self._told = ""
        """The last that was told of the configuration."""
        self._to: dict[ObjectKey, Controller[ObjectKey]] = {}

    def joined(self, member: Member) -> None:
        """A DPU cluster can be spoken to."""
        name = f"agent settings of {member.cluster}"
        controller: Controller[ObjectKey] = Controller(name, lambda _: self._reconcile(member), clock=self._clock, kind="ConfigMap")
        self._to[member.cluster] = controller
        member.runners.append(controller)
        member.agent_settings.subscribe(lambda _: controller.enqueue(_KEY))

    def cluster_changed(self, before: DPUCluster | None, after: DPUCluster | None) -> None:
        """A DPUCluster came, went, changed, or (the same before and after) can be used or not."""
        if before is after and after is not None and key_of(after) in self._to:
            self._to[key_of(after)].enqueue(_KEY)

    def look_at_all(self) -> None:
        """Have the settings of every cluster looked at."""
        for controller in self._to.values():
            controller.enqueue(_KEY)

    async def _reconcile(self, member: Member) -> None:
        """Look at one cluster. Nothing is done while it cannot be read: who watches over it tells when that is over."""
        if member.problem is not None:
            return
        if OPERATOR_CONFIG in self._objects.configs.invalid:
            return  # the cache has said so; what it says is not known
        config = self._objects.config
        try:
            wanted = agent_settings(config, self._host)
        except ValueError as error:
            await self._tell(config, str(error))
            return
        spoiled = _KEY in member.agent_settings.invalid
        live = member.agent_settings.get(_KEY)
        if live is not None and live.metadata.labels.get(HOST_LABEL, self._host) != self._host:
            other = live.metadata.labels[HOST_LABEL]
            _log.warning("the agents of a DPU cluster are told their settings by another host cluster", cluster=member.name, other=other)
        elif wanted is not None and (spoiled or needs_apply(wanted, live)):
            await apply_with_namespace(member.client, AGENT_SETTINGS, wanted, field_owner=HOST_FIELD_OWNER)
        elif wanted is None and (spoiled or live is not None):
            try:
                await member.client.delete(AGENT_SETTINGS, _KEY)
            except NotFound as error:
                _log.debug("not there to be deleted", error=str(error))

    async def _tell(self, config: DPFOperatorConfig | None, problem: str) -> None:
        if config is None or problem == self._told:
            return
        self._told = problem
        _log.error("the setting changes nothing", problem=problem)
        await self._events.record(DPF_OPERATOR_CONFIG, config, "Warning", "InvalidSetting", problem, self._clock.now())
