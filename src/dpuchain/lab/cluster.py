"""One Kubernetes control plane: etcd, the API server, and on request the controller manager and the scheduler."""

from __future__ import annotations

import base64
import json
import ssl
from typing import TYPE_CHECKING, NamedTuple

import aiohttp

from dpuchain.lab.certificates import Authority, Pair
from dpuchain.lab.errors import LabError
from dpuchain.lab.ports import ReservedPort
from dpuchain.lab.probes import answers
from dpuchain.lab.process import Command, Process, tail

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dpuchain.lab.toolchain import Toolchain

SERVICE_SUBNET = "10.96.0.0/16"
SERVICE_ADDRESS = "10.96.0.1"
START_TIMEOUT = 60.0
ADMINISTRATORS = "system:masters"
AGENTS = "dpuchain:agents"
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "userGroups": [AGENTS]}, {"level": "None"}],
}
"""Which requests are written down: those of agents, of which there should be hardly any."""


class Connection(NamedTuple):
    """How a client reaches the API server as one user: what a kubeconfig says, as values."""

    server: str
    authority: Path
    certificate: Path
    key: Path

    def ssl_context(self) -> ssl.SSLContext:
        """Return the TLS context that trusts this server and shows the client certificate."""
        context = ssl.create_default_context(cafile=str(self.authority))
        context.load_cert_chain(self.certificate, self.key)
        return context

    def kubeconfig(self, name: str) -> dict[str, object]:
        """Return a kubeconfig with one cluster and one user; it holds the certificates themselves, so it may be copied anywhere."""
        cluster = {"server": self.server, "certificate-authority-data": _base64(self.authority)}
        user = {"client-certificate-data": _base64(self.certificate), "client-key-data": _base64(self.key)}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
        }


class Cluster:
    """A control plane with all its data in one directory.

    `kubeconfig` (an administrator's) and `admin` are good once `start` has returned. Without the controller manager nothing is garbage
    collected, no namespace ends and no service account is made; without the scheduler only DaemonSets' pods get a node, and those from
    the scheduler too: they stay pending.
    """

    def __init__(self, name: str, directory: Path, toolchain: Toolchain, address: str = "127.0.0.1") -> None:
        self.name = name
        self.directory = directory
        self.address = address
        self.processes: list[Process] = []
        self._toolchain = toolchain
        self._port: ReservedPort | None = None
        self._authority: Authority | None = None

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.directory / "admin.kubeconfig"

    @property
    def audit_log(self) -> Path:
        """What agents have asked the API server for, a line of JSON a request; the last 20 to 40 MB of it."""
        return self.directory / "audit.log"

    @property
    def server(self) -> str:
        """The URL of the API server."""
        if self._port is None:
            raise LabError(f"cluster {self.name} is not running")
        return f"https://{self.address}:{self._port.number}"

    @property
    def authority(self) -> Authority:
        """The authority that signed all certificates of the cluster, kubelets' included."""
        if self._authority is None:
            raise LabError(f"cluster {self.name} is not running")
        return self._authority

    @property
    def admin(self) -> Connection:
        """The administrator's connection."""
        return self.connection("admin", (ADMINISTRATORS,))

    def connection(self, user: str, groups: Sequence[str] = ()) -> Connection:
        """Issue a client certificate for a user and return the connection that uses it."""
        pair = self.authority.client(user, groups)
        return Connection(self.server, self.authority.certificate, pair.certificate, pair.key)

    def write_kubeconfig(self, path: Path, user: str, groups: Sequence[str] = ()) -> Path:
        """Write a kubeconfig for a user, readable by the owner only, and return its path."""
        path.touch(mode=0o600)
        path.write_text(json.dumps(self.connection(user, groups).kubeconfig(self.name)))
        return path

    async def start(self, *, controller_manager: bool = False, scheduler: bool = False) -> None:
        """Start the processes and return when the API server says that it is ready. Raises `LabError`; then nothing is left running."""
        optional = {"kube-controller-manager": controller_manager, "kube-scheduler": scheduler}
        tools = [tool for tool, wanted in optional.items() if wanted]
        await self._toolchain.provide("etcd", "kube-apiserver", *tools)
        try:
            await self._start_etcd()
            await self._start_api_server()
            for tool in tools:
                self._start_manager(tool)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End all processes, those first that need the others. The data stays."""
        while self.processes:
            await self.processes[-1].stop()
            self.processes.pop()
        if self._port is not None:
            self._port.release()
            self._port = None

    def log_tails(self) -> dict[str, str]:
        """Return the end of each process' log, by process name."""
        return {process.name: tail(process.log) for process in self.processes}

    def _launch(self, tool: str, arguments: Sequence[str]) -> Process:
        command = Command(f"{self.name}/{tool}", [self._toolchain.path(tool), *arguments])
        process = Process.start(command, self.directory / f"{tool}.log")
        self.processes.append(process)
        return process

    @property
    def _etcd_socket(self) -> str:
        return f"unix://{self.directory}/etcd.sock"

    async def _start_etcd(self) -> None:
        nobody = "http://127.0.0.1:2380"  # must look like an address; a single member has no peer that would use it
        arguments = [
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls={self._etcd_socket}",
            f"--advertise-client-urls={nobody}",
            f"--listen-peer-urls=unix://{self.directory}/peer.sock",
            f"--initial-advertise-peer-urls={nobody}",
            f"--initial-cluster=default={nobody}",
            "--unsafe-no-fsync",  # the data does not outlive the rack
            "--log-level=warn",
        ]
        process = self._launch("etcd", arguments)

        async def healthy() -> bool:
            connector = aiohttp.UnixConnector(path=f"{self.directory}/etcd.sock")
            return await answers("http://etcd/health", connector)

        await process.until(healthy, "healthy", START_TIMEOUT)

    async def _start_api_server(self) -> None:
        self._port = port = ReservedPort(self.address)
        self._authority = authority = Authority(self.directory / "certificates", f"{self.name} authority")
        names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"]
        serving = authority.server("kube-apiserver", [*names, self.address, SERVICE_ADDRESS])
        kubelets = authority.client("kube-apiserver-kubelet-client", (ADMINISTRATORS,))
        tokens = authority.service_account_key()
        self._launch("kube-apiserver", self._api_server_arguments(port, serving, kubelets, tokens))
        self.write_kubeconfig(self.kubeconfig, "admin", (ADMINISTRATORS,))
        await self.until_ready()

    async def until_ready(self) -> None:
        """Wait until the API server says that it is ready. Raises `ProcessDied`, `NotReady`."""
        process = next(process for process in self.processes if process.name.endswith("/kube-apiserver"))
        connection = self.admin
        context = connection.ssl_context()

        async def ready() -> bool:
            return await answers(f"{connection.server}/readyz", aiohttp.TCPConnector(ssl=context))

        await process.until(ready, "ready", START_TIMEOUT)

    def _api_server_arguments(self, port: ReservedPort, serving: Pair, kubelets: Pair, tokens: Pair) -> list[str]:
        policy = self.directory / "audit-policy.json"
        policy.write_text(json.dumps(AUDIT_POLICY))
        return [
            f"--etcd-servers={self._etcd_socket}",
            f"--bind-address={self.address}",
            f"--advertise-address={self.address}",
            f"--secure-port={port.number}",
            "--permit-port-sharing",  # the port is held by ReservedPort
            f"--tls-cert-file={serving.certificate}",
            f"--tls-private-key-file={serving.key}",
            f"--client-ca-file={self.authority.certificate}",
            f"--service-account-issuer=https://kubernetes.default.svc.{self.name}",
            f"--service-account-signing-key-file={tokens.key}",
            f"--service-account-key-file={tokens.certificate}",
            f"--service-cluster-ip-range={SERVICE_SUBNET}",
            f"--kubelet-client-certificate={kubelets.certificate}",
            f"--kubelet-client-key={kubelets.key}",
            "--kubelet-preferred-address-types=InternalIP",  # `kubectl logs` and `exec` find the kubelets by it
            "--authorization-mode=Node,RBAC",
            "--allow-privileged=true",
            "--enable-aggregator-routing=true",  # webhooks are called at their pods' own addresses: there is no kube-proxy
            "--endpoint-reconciler-type=none",  # it would refuse a loopback address, and nothing here uses the kubernetes Service
            "--shutdown-delay-duration=0s",
            f"--audit-policy-file={policy}",
            f"--audit-log-path={self.audit_log}",
            "--audit-log-maxsize=20",
            "--audit-log-maxbackup=1",
        ]

    def _start_manager(self, tool: str) -> None:
        # The groups of an administrator instead of a service account for each of the manager's forty controllers.
        kubeconfig = self.write_kubeconfig(self.directory / f"{tool}.kubeconfig", f"system:{tool}", (ADMINISTRATORS,))
        arguments = [f"--kubeconfig={kubeconfig}", "--leader-elect=false", "--secure-port=0", "--profiling=false"]
        if tool == "kube-controller-manager":
            arguments += [
                "--use-service-account-credentials=false",
                f"--service-account-private-key-file={self.directory / 'certificates' / 'service-accounts.key'}",
                f"--root-ca-file={self.authority.certificate}",
                "--node-monitor-grace-period=40s",
            ]
        self._launch(tool, arguments)


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
