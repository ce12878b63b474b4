"""The charts of `examples/` as a Helm repository on this machine, in the place of the one that the document's manifests name; and what our
own charts grant the processes that the lab starts without them.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from dpuchain.api.names import OPERATOR_NAMESPACE
from dpuchain.lab.errors import LabError
from dpuchain.lab.process import run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from dpuchain.lab.toolchain import Toolchain

EXAMPLES = Path(__file__).parents[3] / "examples"
OURS = Path(__file__).parents[3] / "deploy" / "charts"
RIGHTS = {"dpuchain": ("rights.yaml", "priority.yaml"), "dpuchain-dpu": ("rights.yaml", "asking.yaml", "priority.yaml")}
"""Our charts, and the templates of each that say who may do what, and how much of it at once."""
REPOSITORY = "https://helm.ngc.nvidia.com/nvidia/doca"
"""The repository that the document's DPUService names."""


async def package(directory: Path, toolchain: Toolchain, environment: Mapping[str, str]) -> None:
    """Fill `directory` with all charts of the examples and their index. Raises `LabError`."""
    sources = [str(chart.parent) for chart in sorted(EXAMPLES.glob("*/charts/*/Chart.yaml"))]
    if not sources:
        raise LabError(f"there is no chart below {EXAMPLES}", "run the lab from a checkout of dpuchain")
    await toolchain.provide("helm")
    await run(toolchain.path("helm"), "package", *sources, "--destination", str(directory), environment=environment)
    await run(toolchain.path("helm"), "repo", "index", str(directory), environment=environment)


async def rights(chart: str, toolchain: Toolchain, version: str, environment: Mapping[str, str]) -> str:
    """Return what one of our charts grants in a cluster of that Kubernetes version, as YAML. Raises `LabError`."""
    templates = [f"--show-only=templates/{name}" for name in RIGHTS[chart]]
    options = [f"--namespace={OPERATOR_NAMESPACE}", f"--kube-version={version}", *templates]
    return await run(toolchain.path("helm"), "template", chart, str(OURS / chart), *options, environment=environment)


@contextlib.asynccontextmanager
async def serve(directory: Path, address: str = "127.0.0.1") -> AsyncIterator[str]:
    """Serve the files of a directory on a free port of an address of this machine; yields the URL."""
    application = web.Application()
    application.router.add_static("/", directory)
    runner = web.AppRunner(application, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, address, 0).start()
        yield f"http://{address}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def helm_environment(directory: Path) -> dict[str, str]:
    """Return the variables that keep what Helm remembers of repositories below a directory, away from the user's own."""
    return {f"HELM_{kind.upper()}_HOME": str(directory / kind) for kind in ("cache", "config", "data")}
