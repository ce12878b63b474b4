"""A private Open vSwitch: its own database, its own daemon, its own sockets, beside any that the machine runs."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from dpuchain.lab.errors import LabError
from dpuchain.lab.layout import LONGEST_SOCKET_PATH
from dpuchain.lab.process import Command, Process, run, tail

if TYPE_CHECKING:
    from pathlib import Path

BRIDGE = "br-sfc"
PROTOCOLS = "OpenFlow10,OpenFlow13,OpenFlow14,OpenFlow15"
SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
DPDK_DAEMON = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"
DPDK_SETTINGS = {
    "dpdk-init": "true",
    # No huge pages and no PCI devices are needed. pmd-maxsleep lets a forwarding thread sleep for so many microseconds where nothing comes.
    "dpdk-extra": "--no-huge --legacy-mem -m 512 --no-pci --no-telemetry",
    "pmd-maxsleep": "100",
}
START_TIMEOUT = 30.0
PROMPT = ("sh", "-c", 'chrt --rr --pid 1 $$ 2>/dev/null; exec "$@"', "prompt")
"""Has a program run as soon as it wants to, where that is allowed: on a DPU forwarding has cores of its own."""


class OpenVSwitch:
    """An ovsdb-server and an ovs-vswitchd with all their files in one directory, and on it the bridge that DPUs have, without flows.

    `dummy` replaces the devices by imitations that carry no packets and need no root; flows, OVSDB and `ofproto/trace` are real. With
    `dpdk` it has DPDK, and so threads of its own for ports of type dpdk, which may be devices of the kernel (net_af_packet).
    """

    def __init__(self, name: str, directory: Path, *, namespace: str = "", dummy: bool = False, dpdk: bool = False) -> None:
        self.name = name
        self.directory = directory
        self._namespace = namespace
        self._dummy = dummy
        self._dpdk = dpdk
        self._server: Process | None = None
        self._daemon: Process | None = None

    @property
    def database(self) -> str:
        """The OVSDB remote, such as `unix:/run/ovs/db.sock`."""
        return f"unix:{self.directory / 'db.sock'}"

    @property
    def _database_file(self) -> Path:
        return self.directory / "conf.db"

    @property
    def management(self) -> Path:
        """The bridge's OpenFlow socket."""
        return self.directory / f"{BRIDGE}.mgmt"

    @property
    def control(self) -> Path:
        """The socket of ovs-vswitchd for `ovs-appctl`."""
        return self.directory / "ovs-vswitchd.ctl"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make the OVS tools talk to this instance, and all of it keep its files in this directory."""
        names = ("OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR", "RUNTIME_DIRECTORY")
        return dict.fromkeys(names, str(self.directory))

    @property
    def processes(self) -> list[Process]:
        """What runs of it."""
        return [process for process in (self._server, self._daemon) if process is not None]

    async def start(self) -> None:
        """Start both processes and make the bridge. Raises `LabError`; then nothing is left running."""
        if len(str(self.management)) > LONGEST_SOCKET_PATH:
            raise LabError(f"{self.management} is too long for a socket's path", "choose a shorter directory")
        self.directory.mkdir(parents=True, exist_ok=True)
        try:
            await self._start_server()
            await self.start_daemon()
            settings = ["datapath_type=netdev", "fail_mode=secure", f"protocols={PROTOCOLS}"]
            await self.vsctl("--may-exist", "add-br", BRIDGE, "--", "set", "bridge", BRIDGE, *settings)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End both processes."""
        await self.stop_daemon()
        if self._server is not None:
            await self._server.stop()
            self._server = None

    def lose_database(self) -> None:
        """Have the next start find an empty database. Nothing of it may run."""
        self._database_file.unlink()

    async def start_daemon(self) -> None:
        """Start ovs-vswitchd, which finds its configuration in the database, but no flows."""
        dummy = ["--enable-dummy=override", "--disable-system", "--disable-system-route"] if self._dummy else []
        program = DPDK_DAEMON if self._dpdk else "ovs-vswitchd"
        arguments = [*PROMPT, program, self.database, f"--unixctl={self.control}", f"--log-file={self.directory / 'vswitchd.log'}"]
        quiet = ["-vconsole:emer", "-vsyslog:off", "-vfile:info", f"--pidfile={self.directory / 'ovs-vswitchd.pid'}"]
        self._daemon = self._launch("ovs-vswitchd", [*arguments, *quiet, *dummy])
        await self._daemon.until(lambda: self._answers(self.control), "answering", START_TIMEOUT)

    async def stop_daemon(self) -> None:
        """End ovs-vswitchd; the database and its server stay."""
        if self._daemon is not None:
            await self._daemon.stop()
            self._daemon = None

    async def restart_server(self) -> None:
        """Kill ovsdb-server and start it again; ovs-vswitchd goes on and connects again."""
        if self._server is not None:
            await self._server.stop(first=signal.SIGKILL)
            self._server.start_again()
            await self._server.until(lambda: self._answers(self.directory / "ovsdb-server.ctl"), "answering", START_TIMEOUT)

    async def vsctl(self, *arguments: str) -> str:
        """Run `ovs-vsctl`, which returns when ovs-vswitchd has taken the change up."""
        return await run("ovs-vsctl", f"--db={self.database}", *arguments, environment=self.environment)

    async def ofctl(self, command: str, *arguments: str) -> str:
        """Run `ovs-ofctl COMMAND br-sfc ARGUMENTS` speaking OpenFlow 1.4."""
        return await run("ovs-ofctl", "-O", "OpenFlow14", command, f"unix:{self.management}", *arguments)

    async def appctl(self, *arguments: str) -> str:
        """Run `ovs-appctl` on ovs-vswitchd."""
        return await run("ovs-appctl", "-t", str(self.control), *arguments)

    def log_tails(self) -> dict[str, str]:
        """Return the end of each log, by file name."""
        return {log.name: tail(log) for log in sorted(self.directory.glob("*.log"))}

    async def _start_server(self) -> None:
        if not self._database_file.exists():
            await run("ovsdb-tool", "create", str(self._database_file), SCHEMA)
        socket, control = self.directory / "db.sock", self.directory / "ovsdb-server.ctl"
        arguments = [
            "ovsdb-server",
            str(self._database_file),
            f"--remote=punix:{socket}",
            f"--unixctl={control}",
            "--remote=db:Open_vSwitch,Open_vSwitch,manager_options",
        ]
        quiet = ["-vconsole:emer", "-vsyslog:off", "-vfile:info", f"--log-file={self.directory / 'ovsdb-server.log'}"]
        self._server = self._launch("ovsdb-server", [*arguments, *quiet, f"--pidfile={self.directory / 'ovsdb-server.pid'}"])
        await self._server.until(lambda: self._answers(control), "answering", START_TIMEOUT)
        await self.vsctl("--no-wait", "init")
        if self._dpdk:
            settings = (f'other_config:{key}="{value}"' for key, value in DPDK_SETTINGS.items())
            await self.vsctl("--no-wait", "set", "Open_vSwitch", ".", *settings)

    def _launch(self, program: str, arguments: list[str]) -> Process:
        command = Command(f"{self.name}/{program}", arguments, self.environment, self._namespace)
        return Process.start(command, self.directory / f"{program}.console.log")

    @staticmethod
    async def _answers(control: Path) -> bool:
        """Whether the daemon behind this socket answers; False while it does not yet listen."""
        if not control.exists():
            return False
        try:
            await run("ovs-appctl", "-t", str(control), "version", timeout=5)
        except LabError:
            return False
        return True
