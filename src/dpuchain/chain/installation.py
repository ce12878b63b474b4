"""What is to be done about our own release in a DPU cluster: the chart of DPU clusters, in the version that the host controller has.

A release that we did not install, or that another host cluster did, is never touched; nor is any where the DPUCluster says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from semver import Version

from dpuchain.api.fleet import DPUCluster
from dpuchain.api.names import INSTALL_ANNOTATION, OPERATOR_NAMESPACE
from dpuchain.chain.release import Release

RELEASE = "dpuchain-dpu"
"""Name of the release and of its chart; its namespace is the operator's."""

Reason = Literal["Installed", "Upgraded", "RolledBack", "NotInstalled"]


@dataclass(frozen=True)
class Package:
    """The chart of DPU clusters that the host controller brings along, and the values that its operator gives it."""

    folder: str
    version: str
    digest: str
    """What tells this chart with these values from any other; fits a label value."""
    values: Mapping[str, Any]

    @property
    def release(self) -> Release:
        """What Helm is to install."""
        return Release(RELEASE, OPERATOR_NAMESPACE, "", self.folder, self.version, self.values)


@dataclass(frozen=True)
class Standing:
    """The newest revision of the release in a DPU cluster, as Helm's record tells."""

    revision: int
    status: str
    host: str
    """Identity of the host cluster that installed it; empty if it was somebody else."""
    version: str
    digest: str
    made_by_us: bool
    """Whether this very revision is of a run of ours; others' runs copy what ours have noted."""


@dataclass(frozen=True)
class Decision:
    """What is to be done, and what is to be told then. `run`: have Helm make it so; without, nothing is done."""

    reason: Reason
    message: str
    run: bool = False
    interrupted: bool = False
    """Whether what a run of ours that was cut off has left is to be cleared away before."""


def decide(cluster: DPUCluster, wanted: Package, found: Standing | None, host: str) -> Decision | None:
    """What to do about the release in `cluster`; None if it is as it should be. `host` is the identity of the host cluster."""
    if cluster.metadata.deletion_timestamp is not None:
        return None
    obstacle = _obstacle(cluster, wanted, found, host)
    if obstacle is not None:
        return Decision("NotInstalled", obstacle)
    if found is None:
        return Decision("Installed", f"chart {RELEASE} {wanted.version}", run=True)
    if found.made_by_us and found.digest == wanted.digest and found.status == "deployed":
        return None
    interrupted = found.status.startswith("pending-") or found.status == "uninstalling"
    if interrupted and found.revision == 1:
        return Decision("Installed", f"chart {RELEASE} {wanted.version}, after an attempt that was cut off", run=True, interrupted=True)
    reason, what = _change(found, wanted)
    return Decision(reason, what, run=True, interrupted=interrupted)


def _obstacle(cluster: DPUCluster, wanted: Package, found: Standing | None, host: str) -> str | None:
    """Why the release is none of ours to make; None if it is."""
    name = f"{OPERATOR_NAMESPACE}/{RELEASE}"
    if cluster.metadata.annotations.get(INSTALL_ANNOTATION) == "false":
        left = f"release {name} is left as it is" if found is not None else f"chart {RELEASE} {wanted.version} is yours to install"
        return f"annotation {INSTALL_ANNOTATION} is false: {left}"
    if found is None:
        return None
    if found.host != host:
        whose = "another host cluster" if found.host else "somebody else"
        remedy = f"uninstall it to have it kept by this controller, or annotate the DPUCluster with {INSTALL_ANNOTATION}=false"
        return f"release {name} exists already and was made by {whose}; {remedy}"
    if found.status.startswith("pending-") and not found.made_by_us:
        remedy = f"wait for it, or, if no Helm runs any more, `helm rollback --namespace {OPERATOR_NAMESPACE} {RELEASE}`"
        return f"somebody else's Helm works on release {name} (it is {found.status}); {remedy}"
    return None


def _change(found: Standing, wanted: Package) -> tuple[Reason, str]:
    if found.version == wanted.version:
        why = "with other values" if found.digest != wanted.digest else f"anew, as somebody changed it (it was {found.status})"
        return "Upgraded", f"chart {RELEASE} {wanted.version}, {why}"
    back = _is_older(wanted.version, found.version)
    return "RolledBack" if back else "Upgraded", f"chart {RELEASE} {found.version} to {wanted.version}"


def _is_older(version: str, than: str) -> bool:
    """By the order of semantic versions (https://semver.org, 11); one that is none is the oldest."""
    return Version.is_valid(than) and (not Version.is_valid(version) or Version.parse(version) < Version.parse(than))
