"""Frames with numbers: a station that sends them at a steady rate, receives another's, and tells which ones never came.

Run as a process in the network namespace of each end (`python -m dpuchain.lab.traffic`), by `Stream` or by hand. SIGUSR2 begins the
sending, SIGUSR1 ends it, SIGHUP has it print its `Report` so far as a line of JSON, SIGTERM ends the process, which then prints the last
one. Frames are Ethernet of type 0x88b5 (IEEE 802, local experimental).
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass

ETHERTYPE = 0x88B5
SO_RCVBUFFORCE = 33
"""asm-generic/socket.h: as SO_RCVBUF, beyond the machine's limit."""
HEADER = struct.Struct("!6s6sH")
BODY = struct.Struct("!4sIQ")  # mark, stream, number
MARK = b"dpuc"
SHORTEST = 60
TICK = 0.001
"""Seconds between two bursts: the kernel's timer gives no finer ones."""
MOST_AT_ONCE = 16
"""Frames in one burst, as many as fit into any queue on the way."""
SETTLE = 0.5
"""Seconds that the last frames have to arrive."""


@dataclass
class Report:
    """What one end saw. `late` came after a later one, `alien` are of a stream that has no business here."""

    sent: int = 0
    received: int = 0
    duplicates: int = 0
    late: int = 0
    alien: int = 0


class Receiver:
    """Counts what comes of stream `stream`, whose numbers begin with 0."""

    def __init__(self, stream: int) -> None:
        self.report = Report()
        self._stream = stream
        self._highest = -1
        self._missing: set[int] = set()

    def take(self, frame: bytes) -> None:
        """Look at one frame; what is not ours at all is passed over."""
        if len(frame) < HEADER.size + BODY.size:
            return
        mark, stream, number = BODY.unpack_from(frame, HEADER.size)
        if mark != MARK:
            return
        report = self.report
        if stream != self._stream:
            report.alien += 1
        elif number > self._highest:
            self._missing.update(range(self._highest + 1, number))
            self._highest = number
            report.received += 1
        elif number in self._missing:
            self._missing.discard(number)
            report.late += 1
            report.received += 1
        else:
            report.duplicates += 1


def frame(target: bytes, source: bytes, stream: int, number: int) -> bytes:
    """One frame of a stream."""
    return (HEADER.pack(target, source, ETHERTYPE) + BODY.pack(MARK, stream, number)).ljust(SHORTEST, b"\0")


class Station:
    """Sends one stream and receives another on a device of this namespace."""

    def __init__(self, interface: str, peer: str, sends: int, receives: int, rate: int) -> None:
        self._socket = socket.socket(
            socket.AF_PACKET, socket.SOCK_RAW
        )  # which hears nothing until it is bound: other devices' frames are alien
        self._socket.bind((interface, ETHERTYPE))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 23)
        self._source: bytes = self._socket.getsockname()[4]
        self._target = bytes.fromhex(peer.replace(":", ""))
        self._stream = sends
        self._rate = rate
        self._receiver = Receiver(receives)
        self.sending = False
        self.running = True

    @property
    def report(self) -> Report:
        """What was sent and received so far."""
        return self._receiver.report

    def run(self) -> None:
        """Receive, and send while `sending`, until `running` is false."""
        thread = threading.Thread(target=self._receive, daemon=True)
        thread.start()
        credit, before = 0.0, time.monotonic()
        while self.running:
            now = time.monotonic()
            # A station that did not get the processor for a while must not make up for it: it would measure its own burst.
            credit = min(credit + (now - before) * self._rate, MOST_AT_ONCE) if self.sending else 0.0
            before = now
            while credit >= 1 and self._send():
                credit -= 1
            time.sleep(max(TICK, 1 / self._rate))
        thread.join()

    def _send(self) -> bool:
        """Send the next frame; returns whether the device took it, which one that is down does not."""
        try:
            self._socket.send(frame(self._target, self._source, self._stream, self.report.sent))
        except OSError as error:
            if error.errno not in (errno.ENETDOWN, errno.ENOBUFS):
                raise
            return False
        self.report.sent += 1
        return True

    def _receive(self) -> None:
        self._socket.settimeout(0.1)
        while self.running:
            try:
                data, (_, _, kind, *_) = self._socket.recvfrom(2048)
            except TimeoutError:
                continue
            except OSError as error:
                if error.errno != errno.ENETDOWN:  # told once each time that the device goes down
                    raise
                continue
            if kind != socket.PACKET_OUTGOING:
                self._receiver.take(data)


@dataclass(frozen=True)
class End:
    """Where a station is: a network namespace and a device in it."""

    namespace: str
    interface: str


@dataclass(frozen=True)
class Outcome:
    """What became of the frames of both directions."""

    sent: int
    lost: int
    duplicates: int
    late: int
    alien: int


class Stream:
    """Two stations that send to each other; `number` tells streams apart that run at the same time. To be used in a `with`."""

    def __init__(self, first: End, second: End, number: int = 1, rate: int = 4000) -> None:
        self._ends = (first, second)
        self._number = number
        self._rate = rate
        self._processes: list[subprocess.Popen[str]] = []
        self.outcome: Outcome | None = None

    def __enter__(self) -> Stream:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to send both ways, as soon as both listen."""
        first, second = self._ends
        self._processes = [self._launch(first, second, 2 * self._number, 2 * self._number + 1)]
        self._processes.append(self._launch(second, first, 2 * self._number + 1, 2 * self._number))
        self.resume()

    def resume(self) -> None:
        """Send, from where the sending was paused."""
        self._signal(signal.SIGUSR2)

    def pause(self) -> Outcome:
        """End the sending for a while, let the last frames arrive, and return what was counted so far."""
        self._signal(signal.SIGUSR1)
        time.sleep(SETTLE)
        self._signal(signal.SIGHUP)
        return _outcome([process.stdout.readline() for process in self._processes if process.stdout is not None])

    def stop(self) -> Outcome:
        """End the sending, let the last frames arrive, and return what was counted."""
        if self.outcome is None:
            self.pause()
            self._signal(signal.SIGTERM)
            self.outcome = _outcome([process.communicate(timeout=10)[0] for process in self._processes])
        return self.outcome

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes:
            process.send_signal(number)

    def _launch(self, here: End, there: End, sends: int, receives: int) -> subprocess.Popen[str]:
        arguments = [f"--interface={here.interface}", f"--peer={_address(there)}", f"--rate={self._rate}"]
        command = [sys.executable, "-m", "dpuchain.lab.traffic", *arguments, f"--sends={sends}", f"--receives={receives}"]
        process = subprocess.Popen(["nsenter", f"--net=/run/netns/{here.namespace}", *command], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()  # it says when it listens
        return process


def _outcome(printed: list[str]) -> Outcome:
    first, second = (Report(**json.loads(line)) for line in printed)
    return Outcome(
        sent=first.sent + second.sent,
        lost=first.sent - second.received + second.sent - first.received,
        duplicates=first.duplicates + second.duplicates,
        late=first.late + second.late,
        alien=first.alien + second.alien,
    )


def _address(end: End) -> str:
    command = ["ip", "-netns", end.namespace, "-json", "link", "show", end.interface]
    return str(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)[0]["address"])


def main() -> None:
    """Be one end of a stream until SIGTERM, then print the report."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--interface", required=True)
    parser.add_argument("--peer", required=True, metavar="MAC")
    parser.add_argument("--sends", type=int, required=True, metavar="STREAM")
    parser.add_argument("--receives", type=int, required=True, metavar="STREAM")
    parser.add_argument("--rate", type=int, default=4000, metavar="FRAMES_A_SECOND")
    arguments = parser.parse_args()
    station = Station(arguments.interface, arguments.peer, arguments.sends, arguments.receives, arguments.rate)
    with contextlib.suppress(PermissionError):  # what is measured is the way, not how busy the ends are
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    signal.signal(signal.SIGUSR2, lambda *_: setattr(station, "sending", True))
    signal.signal(signal.SIGUSR1, lambda *_: setattr(station, "sending", False))
    signal.signal(signal.SIGTERM, lambda *_: setattr(station, "running", False))
    signal.signal(signal.SIGHUP, lambda *_: _print(station.report))
    os.write(1, b"listening\n")
    station.run()
    _print(station.report)


def _print(report: Report) -> None:
    os.write(1, f"{json.dumps(asdict(report))}\n".encode())


if __name__ == "__main__":
    main()
