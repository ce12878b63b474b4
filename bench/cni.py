"""The CNI's ADD, ours alone: from the start of the executable to its end."""

from __future__ import annotations

import json
import os
import subprocess
import time
import uuid
from typing import Any

from bench.rack import NAMESPACE, Rack

DPU = "dpu-1"
RUNS = 100
INTERFACE = "bench0"


def add(rack: Rack) -> list[float]:
    """Seconds of each ADD, for another network namespace each time; every one is followed by a DEL, which is not timed."""
    pods = json.loads(rack.kubectl("cluster-1", "get", "pods", "--output=json"))["items"]
    pod = next(item for item in pods if item["spec"]["nodeName"] == DPU)
    return [_once(rack, pod) for _ in range(RUNS)]


def _once(rack: Rack, pod: dict[str, Any]) -> float:
    # /proc and not /run/netns: the agent, as on a DPU, sees the mounts of the container runtime.
    with subprocess.Popen(["unshare", "--net", "sh", "-c", "echo made; exec sleep 60"], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        try:
            call = _call(pod, f"/proc/{holder.pid}/ns/net")
            began = time.perf_counter()
            _run(rack, {**call, "CNI_COMMAND": "ADD"})
            ended = time.perf_counter()
            _run(rack, {**call, "CNI_COMMAND": "DEL"})
        finally:
            holder.kill()
    return ended - began


def _call(pod: dict[str, Any], namespace: str) -> dict[str, str]:
    meta = pod["metadata"]
    names = f"K8S_POD_NAMESPACE={NAMESPACE};K8S_POD_NAME={meta['name']};K8S_POD_UID={meta['uid']}"
    return {
        "CNI_CONTAINERID": uuid.uuid4().hex,
        "CNI_NETNS": namespace,
        "CNI_IFNAME": INTERFACE,
        "CNI_ARGS": f"IgnoreUnknown=true;{names}",
        "CNI_PATH": "/usr/lib/cni",
    }


def _run(rack: Rack, call: dict[str, str]) -> None:
    config = json.dumps({"cniVersion": "1.1.0", "name": "bench", "type": "dpuchain-cni"})
    plugin = rack.directory / DPU / "cni" / "bin" / "dpuchain-cni"
    done = subprocess.run([plugin], input=config, env={**os.environ, **call}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{call['CNI_COMMAND']}: {done.stdout}{done.stderr}")
