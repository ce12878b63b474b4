"""The parts used of DPF's DPUCluster and DPFOperatorConfig; whatever else they hold is preserved and not looked at."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, field

from dpuchain.api.durations import PATTERN, InvalidDurationError, parse_duration
from dpuchain.api.meta import Model, ObjectMeta, key_of
from dpuchain.api.rules import CONDITIONS, PRESERVE, Rule

Mtu = Annotated[int, Meta(ge=1280, le=9216)]
DEFAULT_HIGH_SPEED_MTU = 1500


class Part(Model, frozen=True, kw_only=True):
    """A part of an object of which DPF knows more fields than are listed here."""

    SCHEMA: ClassVar[dict[str, Any]] = PRESERVE


class DPUClusterSpec(Part, frozen=True, kw_only=True):
    """A DPU cluster and the way to reach it."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(oldSelf.kubeconfig) || (has(self.kubeconfig) && self.kubeconfig == oldSelf.kubeconfig)",
            "kubeconfig is immutable",
        ),
    )

    type: Annotated[
        str,
        Meta(
            description="Who provides the cluster: kamaji, static, or another manager as vendor/name.",
            pattern=r"^(kamaji|static|[^/]+/.+)$",
        ),
    ]
    max_nodes: Annotated[int, Meta(description="Most DPUs that may join.", ge=1, le=3000)] = 1000
    version: Annotated[str, Meta(description="Kubernetes version of the cluster.")]
    cluster_endpoint: Annotated[str | None, Meta(description="How the cluster's API server is reached.")] = None
    kubeconfig: Annotated[
        str | None,
        Meta(description="Secret in the same namespace whose key admin.conf holds the kubeconfig; cannot be changed."),
    ] = None


class DPUClusterStatus(Part, frozen=True, kw_only=True):
    """Where the cluster stands in its life."""

    phase: Annotated[Literal["Pending", "Creating", "Ready", "NotReady", "Failed"], Meta(description="Phase of the cluster's life.")] = (
        "Pending"
    )
    conditions: CONDITIONS = ()


class DPUCluster(Model, frozen=True, kw_only=True):
    """A Kubernetes cluster whose nodes are DPUs."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "oldSelf.hasValue() || self.metadata.name.matches('^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$')",
            "name must be a DNS-1035 label: at most 63 of a-z, 0-9 and -, a letter first, no hyphen last",
            on_create=True,
        ),
    )

    metadata: ObjectMeta = ObjectMeta()
    spec: DPUClusterSpec
    status: DPUClusterStatus = DPUClusterStatus()


class Networking(Part, frozen=True, kw_only=True):
    """MTUs of the installation's networks."""

    control_plane_mtu: Annotated[Mtu, Meta(description="MTU of the network between the clusters.")] = field(
        name="controlPlaneMTU", default=1500
    )
    high_speed_mtu: Annotated[Mtu, Meta(description="MTU of the network that the DPUs' uplinks are on; no serviceMTU may exceed it.")] = (
        field(name="highSpeedMTU", default=DEFAULT_HIGH_SPEED_MTU)
    )


class SfcController(Part, frozen=True, kw_only=True):
    """Settings of what programs the switches."""

    secure_flow_deletion_timeout: Annotated[
        str | None,
        Meta(
            description="How long the API server may be away until all flows are removed, such as 5m0s; they stay if this is absent or 0.",
            extra_json_schema={"pattern": PATTERN},
        ),
    ] = None


class DPFOperatorConfigSpec(Part, frozen=True, kw_only=True):
    """Settings of the whole installation."""

    networking: Annotated[Networking, Meta(description="MTUs.")] = Networking()
    sfc_controller: Annotated[SfcController | None, Meta(description="Settings of what programs the switches.")] = None


class DPFOperatorConfigStatus(Part, frozen=True, kw_only=True):
    """What DPF's operator says about the installation."""

    conditions: CONDITIONS = ()


class DPFOperatorConfig(Model, frozen=True, kw_only=True):
    """Settings of the whole installation; there is one, dpfoperatorconfig in dpf-operator-system."""

    metadata: ObjectMeta = ObjectMeta()
    spec: DPFOperatorConfigSpec = DPFOperatorConfigSpec()
    status: DPFOperatorConfigStatus = DPFOperatorConfigStatus()

    @property
    def secure_flow_deletion_milliseconds(self) -> int | None:
        """Milliseconds that a DPU's API server may be away until all flows go; None if they stay. ValueError if that makes no sense.

        DPF's own schema takes any text, so the API server need not have refused it.
        """
        text = self.spec.sfc_controller.secure_flow_deletion_timeout if self.spec.sfc_controller is not None else None
        if text is None:
            return None
        field = f"DPFOperatorConfig {key_of(self)}: spec.sfcController.secureFlowDeletionTimeout"
        try:
            nanoseconds = parse_duration(text)
        except InvalidDurationError as error:
            raise ValueError(f"{field}: {error}; 0 turns it off") from error
        if nanoseconds < 0:
            raise ValueError(
                f"{field}: {text} is less than nothing; write how long the API server may be away, such as 5m0s, or 0 for ever"
            )
        return -(-nanoseconds // 10**6) or None


class AgentSettingsData(Model, frozen=True, kw_only=True):
    """Text alone, as a ConfigMap holds it."""

    secure_flow_deletion_milliseconds: Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,15}$")] | None = None


class AgentSettings(Model, frozen=True, kw_only=True):
    """What the agents of a DPU cluster are told of the DPFOperatorConfig, which they cannot see: a ConfigMap."""

    metadata: ObjectMeta = ObjectMeta()
    data: AgentSettingsData = AgentSettingsData()

    @property
    def secure_flow_deletion_seconds(self) -> float | None:
        """Seconds that the API server may be away until all flows go; None if they stay."""
        text = self.data.secure_flow_deletion_milliseconds
        return None if text is None else int(text) / 1000
