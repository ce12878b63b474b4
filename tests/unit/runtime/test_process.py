"""The life of a process, and its logs: seen from outside, on real processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

import pytest

MAIN = """
import asyncio, sys
from dpuchain.runtime.process import run

async def main():
    print("started", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        print("cleaned up", flush=True)

sys.exit(run(main))
"""
HEAD = """
import asyncio, sys
from dpuchain.runtime.process import run

async def main():
    """
BUFFERS = """
import asyncio, sys
from dpuchain.runtime import process

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 // 1024 // 1024

def buffers():
    # With smaller blocks between them, that stay.
    return [(bytearray(256 * 1024), bytearray(16 * 1024)) for _ in range(200)]

async def main():
    before = resident()
    kept = [small for _, small in buffers()]
    kept += [small for _, small in buffers()]
    async with asyncio.timeout(20):
        while resident() - before > 15:
            await asyncio.sleep(0.01)  # the kernel tells nobody

process.GIVE_BACK_SECONDS = 0.1
sys.exit(process.run(main))
"""
LOGS = """
import logging, structlog
from dpuchain.runtime.logs import set_up
from dpuchain.runtime.process import run

async def main():
    log = structlog.get_logger("x")
    log.debug("hidden")
    log.info("shown", key="ns/name", odd={1, 2})
    logging.getLogger("library").warning("from %s", "elsewhere")
    try:
        raise ValueError("the reason")
    except ValueError as error:
        log.error("failed", exc_info=error)
        logging.getLogger("library").exception("failed too")

run(main, log_level="info")
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_in_good_order(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", MAIN], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        process.send_signal(number)
        out, errors = process.communicate(timeout=60)
    assert (process.returncode, out, errors) == (0, "cleaned up\n", "")


def test_it_ends_when_main_returns_and_its_exceptions_pass_through() -> None:
    assert python(HEAD + "pass\nsys.exit(run(main))").returncode == 0
    broken = python(HEAD + "raise ValueError('the reason')\nsys.exit(run(main))")
    assert broken.returncode == 1
    assert "ValueError: the reason" in broken.stderr


def test_a_main_that_was_cancelled_from_within_did_not_end_well() -> None:
    assert python(HEAD + "raise asyncio.CancelledError\nsys.exit(run(main))").returncode != 0


def test_memory_of_connections_that_are_closed_is_given_back() -> None:
    """asyncio has a buffer of that size for each; 400 of them are 100 MB, and what stays between them is 6."""
    assert python(BUFFERS).returncode == 0


def test_logs_are_a_json_object_a_line_on_standard_error() -> None:
    done = python(LOGS)
    assert (done.returncode, done.stdout) == (0, "")
    lines: list[dict[str, Any]] = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["event"], line["level"]) for line in lines] == [
        ("shown", "info"),
        ("from elsewhere", "warning"),
        ("failed", "error"),
        ("failed too", "error"),
    ]
    assert lines[0]["key"] == "ns/name"
    assert all(line["timestamp"].endswith("Z") for line in lines)
    assert all("ValueError: the reason" in line["exception"] for line in lines[2:])


def test_an_unknown_level_is_an_error() -> None:
    assert python("from dpuchain.runtime.logs import set_up\nset_up('loud')").returncode != 0
