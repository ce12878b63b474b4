"""kubectl, as the lab runs it: for one cluster, without touching the caller's own settings."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from dpuchain.api.names import OPERATOR_NAMESPACE
from dpuchain.lab.process import run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TIMEOUT = 60.0


class Kubectl:
    """kubectl as an administrator of one cluster. To be called with its arguments; every method raises `LabError` with what it printed."""

    def __init__(self, program: str, kubeconfig: Path, cache: Path) -> None:
        self._command = [program, f"--kubeconfig={kubeconfig}", f"--cache-dir={cache}"]

    async def __call__(self, *arguments: str, stdin: bytes | None = None, timeout: float = TIMEOUT) -> str:
        """Run it and return what it prints."""
        return await run(*self._command, *arguments, stdin=stdin, timeout=timeout)

    async def apply(self, objects: Sequence[dict[str, Any]]) -> None:
        """Apply objects on the server side."""
        content = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        await self("apply", "--server-side", "--field-manager=dpuchain-lab", "--filename=-", stdin=content.encode())

    async def until_established(self) -> None:
        """Wait until the kinds of all definitions can be used.

        `kubectl wait` takes a definition that has no conditions yet, as in its first milliseconds, for a failure.
        """
        async with asyncio.timeout(TIMEOUT):
            while True:
                listing = json.loads(await self("get", "customresourcedefinitions", "--output=json"))["items"]
                states = [{c["type"]: c["status"] for c in item.get("status", {}).get("conditions") or []} for item in listing]
                if all(state.get("Established") == "True" for state in states):
                    return
                await asyncio.sleep(0.1)

    async def patch_status(self, kind: str, name: str, status: dict[str, Any]) -> None:
        """Set fields of the status of an object in the operator's namespace."""
        patch = json.dumps({"status": status})
        await self("patch", kind, name, f"--namespace={OPERATOR_NAMESPACE}", "--subresource=status", "--type=merge", f"--patch={patch}")

    async def items(self, *kinds: str, namespace: str = "") -> list[dict[str, Any]]:
        """Return all objects of some kinds, in one namespace or in all."""
        where = f"--namespace={namespace}" if namespace else "--all-namespaces"
        items: list[dict[str, Any]] = json.loads(await self("get", ",".join(kinds), where, "--output=json"))["items"]
        return items
