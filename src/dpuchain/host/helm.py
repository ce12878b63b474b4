"""The one door to Helm: its command, with a home of its own, so that nobody's repositories and settings are read or changed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import msgspec

from dpuchain.chain.release import Release

COMMAND_SECONDS = 300.0
NO_CHART = re.compile(
    r"chart .* not found in|no chart (version|name) found|chart repository or cannot be reached|failed to (fetch|download|perform)"
)
"""What Helm says when it cannot get a chart."""


class HelmError(Exception):
    """Helm did not do it; the message has Helm's own words and, where one is known, a remedy."""


class Helm:
    """Installs and removes releases. `mirrors` maps repository URLs to the URLs that charts are fetched from instead."""

    def __init__(self, program: str, mirrors: Mapping[str, str]) -> None:
        self._program = program
        self._mirrors = {source.rstrip("/"): target for source, target in mirrors.items()}

    async def install(self, kubeconfig: bytes, release: Release, labels: Mapping[str, str]) -> None:
        """Install or upgrade a release; it has `labels` on its record afterwards. HelmError if that is not possible."""
        repository = self._mirrors.get(release.repo_url.rstrip("/"), release.repo_url)
        if repository.startswith("oci://"):
            chart = [f"{repository.rstrip('/')}/{release.chart}" if release.chart else repository]
        else:
            chart = [release.chart, "--repo", repository]
        marks = ",".join(f"{key}={value}" for key, value in labels.items())
        where = ["--namespace", release.namespace, "--create-namespace"]
        options = ["--version", release.version, *where, "--labels", marks, "--values", "-", "--history-max", "3"]
        try:
            await self._run(kubeconfig, ["upgrade", "--install", release.name, *chart, *options], msgspec.json.encode(release.values))
        except HelmError as error:
            if NO_CHART.search(str(error)):
                what = f"chart {release.chart or repository} {release.version} cannot be had from {release.repo_url}"
                raise HelmError(f"{what}: {error}; check spec.helmChart.source") from error
            raise

    async def uninstall(self, kubeconfig: bytes, namespace: str, name: str) -> None:
        """Remove a release; one that is not there is fine. HelmError if that is not possible."""
        await self._run(kubeconfig, ["uninstall", name, "--namespace", namespace, "--ignore-not-found"], b"")

    async def _run(self, kubeconfig: bytes, arguments: list[str], stdin: bytes) -> None:
        async with _home(kubeconfig) as environment:
            try:
                child = await asyncio.create_subprocess_exec(
                    self._program,
                    *arguments,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.PIPE,
                    env=environment,
                )
            except OSError as error:
                raise HelmError(f"{self._program} cannot be run ({error.strerror}); install Helm 3 and name it with --helm") from error
            try:
                async with asyncio.timeout(COMMAND_SECONDS):
                    _, said = await child.communicate(stdin)
            except TimeoutError as error:
                raise HelmError(f"helm {arguments[0]} took longer than {COMMAND_SECONDS:.0f} s") from error
            finally:
                if child.returncode is None:
                    child.kill()
                    await child.wait()
        if child.returncode:
            lines = [line for line in said.decode(errors="replace").splitlines() if line.strip() and not line.startswith("WARNING")]
            raise HelmError(" ".join(lines).removeprefix("Error: ") or f"helm {arguments[0]} exited with {child.returncode}")


@contextlib.asynccontextmanager
async def _home(kubeconfig: bytes) -> AsyncIterator[dict[str, str]]:
    """The environment of one command: its kubeconfig in a folder that nobody else can read and that goes with the command."""
    with tempfile.TemporaryDirectory(prefix="dpuchain-helm-") as folder:
        path = Path(folder)
        (path / "kubeconfig").write_bytes(kubeconfig)
        homes = {f"HELM_{name}_HOME": str(path / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HELM_", "KUBE"))}
        yield {**kept, **homes, "KUBECONFIG": str(path / "kubeconfig")}
