"""The document's example on a running rack: applied, waited for, and proved by a ping."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dpuchain.api.names import OPERATOR_NAMESPACE
from dpuchain.lab.charts import EXAMPLES
from dpuchain.lab.errors import LabError
from dpuchain.lab.kubectl import Kubectl
from dpuchain.lab.layout import HOST, Layout, Shape
from dpuchain.lab.network import FABRIC_ADDRESS, host_address, inside

if TYPE_CHECKING:
    from collections.abc import Callable

    Report = Callable[[str], None]

MANIFEST = EXAMPLES / "01-bump-in-the-wire" / "chain.yaml"
KINDS = "dpuserviceinterface,dpuservice,dpuservicechain"
READY_SECONDS = 120


def kubectl(layout: Layout, cluster: str) -> Kubectl:
    """Return kubectl for the administrator of a running rack's cluster."""
    return Kubectl(str(layout.tools / "kubectl"), layout.kubeconfig(cluster), layout.root / "kubectl-cache")


async def apply(layout: Layout, shape: Shape, report: Report) -> None:
    """Apply the example as a person would, and wait until it is Ready and its pods run. Raises `LabError` with what is not ready."""
    host = kubectl(layout, HOST)
    await host("apply", "--server-side", f"--filename={MANIFEST}")
    report(f"applied {MANIFEST.relative_to(EXAMPLES.parent)}")
    await _ready(host, f"--filename={MANIFEST}")
    report("DPUServiceInterfaces, DPUService and DPUServiceChain are Ready")
    await asyncio.gather(*(_pods_ready(layout, name) for name in shape.cluster_names))
    report("the service's pods are Ready")


async def ping(layout: Layout, shape: Shape) -> tuple[str, str]:
    """Send a ping that passes the chain of host-1's DPU, and host-2's if there is one; return what was asked, and the answer.

    Raises `LabError` if no answer comes.
    """
    target, address = ("host-2", host_address(2)) if shape.dpus > 1 else ("the fabric", FABRIC_ADDRESS)
    try:
        output = await inside(layout.identity.namespace("host-1"), "busybox", "ping", "-c", "3", "-i", "0.2", "-W", "2", str(address))
    except LabError as error:
        raise LabError(f"no answer to the ping from host-1 to {target} ({address}): {error}", "look at the tree above") from None
    return f"host-1 → {target} ({address})", output.strip()


async def _pods_ready(layout: Layout, cluster: str) -> None:
    await _ready(kubectl(layout, cluster), "pod", "--all")


async def _ready(cluster: Kubectl, *what: str) -> None:
    """Wait for condition Ready of some objects in the operator's namespace; what is not ready then is told with its condition."""
    where = f"--namespace={OPERATOR_NAMESPACE}"
    try:
        await cluster("wait", "--for=condition=Ready", *what, where, f"--timeout={READY_SECONDS}s", timeout=READY_SECONDS + 10)
    except LabError as error:
        raise LabError(f"not Ready after {READY_SECONDS} s: {error}", "look at the tree with `dpuchain lab status`") from None
