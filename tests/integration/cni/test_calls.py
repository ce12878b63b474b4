"""Calls that are wrong, the executable by itself, and a runtime's own library driving it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dpuchain.cni import plugin
from dpuchain.lab.errors import LabError
from dpuchain.lab.process import run

if TYPE_CHECKING:
    from tests.integration.cni.conftest import Pods
    from tests.integration.cni.node import Node, Sandbox

    from dpuchain.lab.toolchain import Toolchain

NEVER = {"CNI_CONTAINERID": "c", "CNI_NETNS": "/run/netns/none", "CNI_IFNAME": "eth1"}
MALFORMED = {
    "empty": b"",
    "white": b" \n",
    "no JSON": b"cniVersion: 1.1.0",
    "cut off": b'{"cniVersion": "1.1.0", "na',
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "two objects": b"{}{}",
    "invalid UTF-8": b'{"cniVersion": "\xff"}',
    "zeros": bytes(100),
    "a huge number": b'{"cniVersion": "1.1.0", "x": ' + b"9" * 5000 + b"}",
}

OWN_CACHE = 'mount --bind "$1" /var/lib && shift && exec "$@"'
"""The library keeps results in /var/lib/cni, which may be another's: in a mount namespace of its own it sees a directory of the test."""


@pytest.fixture
async def pod(pods: Pods) -> Sandbox:
    return await pods.make()


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
@pytest.mark.parametrize("command", ["ADD", "DEL"])
async def test_malformed_input_is_an_error_object(node: Node, command: str, text: bytes) -> None:
    answer = await node.call(command, environment=NEVER, text=text)
    assert answer.refused(6, "JSON")
    assert answer.value["cniVersion"] == "1.1.0"


@pytest.mark.parametrize("depth", [100, 988, 989, 990, 991, 992, 993, 994, 995, 996, 997, 998, 999, 1000, 1001, 100_000])
@pytest.mark.parametrize("around", ["%s", '{"cniVersion": "1.1.0", "name": "n", "x": %s}'])
async def test_deep_nesting_is_an_error_object(node: Node, depth: int, around: str) -> None:
    answer = await node.call("ADD", environment=NEVER, text=(around % ("[" * depth + "]" * depth)).encode())
    assert answer.refused(2, "x=[[") or answer.refused(6)


@pytest.mark.parametrize("version", [None, "", "0.1.0", "0.2.0", "1.2.0", "2.0.0", "1.1", 1, ["1.1.0"], {}])
async def test_wrong_version(node: Node, version: Any) -> None:
    answer = await node.call("ADD", node.config(cniVersion=version), NEVER)
    assert answer.refused(1, "0.3.1", "1.0.0", "1.1.0")
    assert answer.value["cniVersion"] in plugin.VERSIONS


@pytest.mark.parametrize("version", ["0.3.1", "1.0.0", "1.1.0"])
async def test_error_has_the_version_of_the_call(node: Node, version: str) -> None:
    answer = await node.call("ADD", node.config(cniVersion=version, mtu=1500), NEVER)
    assert answer.refused(2)
    assert answer.value["cniVersion"] == version


@pytest.mark.parametrize("command", ["", "add", "VERSIONS", "UPDATE"])
async def test_unknown_command(node: Node, command: str) -> None:
    assert (await node.call(command, node.config(), NEVER)).refused(4, "CNI_COMMAND", repr(command))


@pytest.mark.parametrize(
    ("command", "name"),
    [("ADD", name) for name in NEVER] + [("CHECK", name) for name in NEVER] + [("DEL", "CNI_CONTAINERID"), ("DEL", "CNI_IFNAME")],
)
async def test_variable_that_is_missing(node: Node, command: str, name: str) -> None:
    for environment in ({**NEVER, name: ""}, {key: value for key, value in NEVER.items() if key != name}):
        assert (await node.call(command, node.config(), environment)).refused(4, name)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ("", "K8S_POD_NAMESPACE"),
        ("K8S_POD_NAMESPACE=a", "K8S_POD_NAME"),
        ("K8S_POD_NAME=a", "K8S_POD_NAMESPACE"),
        ("K8S_POD_NAME=;K8S_POD_NAMESPACE=a", "K8S_POD_NAME"),
        ("K8S_POD_NAME=a;K8S_POD_NAMESPACE=", "K8S_POD_NAMESPACE"),
        ("K8S_POD_NAME=../../secrets/a;K8S_POD_NAMESPACE=a", "K8S_POD_NAME"),
        ("K8S_POD_NAME=a?b;K8S_POD_NAMESPACE=a", "K8S_POD_NAME"),
        ("nonsense", "CNI_ARGS"),
    ],
)
async def test_arguments_that_name_no_pod(node: Node, arguments: str, word: str) -> None:
    assert (await node.call("ADD", node.config(), {**NEVER, "CNI_ARGS": arguments})).refused(4, word)


@pytest.mark.parametrize("interface", ["a-name-of-16-char", "ééééééééé", "a/b", "a b", "..", "a:b"])
async def test_name_that_no_interface_can_have(node: Node, pod: Sandbox, interface: str) -> None:
    assert (await node.call("ADD", node.config(), pod.environment(interface))).refused(4, "CNI_IFNAME", repr(interface))
    assert await pod.bare(interface)


@pytest.mark.parametrize("field", ["ipam", "mtu", "vlan", "trunk", "interface_type", "configuration_path"])
async def test_field_that_is_not_supported_is_named_with_its_value(node: Node, pod: Sandbox, field: str) -> None:
    changes: dict[str, Any] = {field: {"type": "nv-ipam"}}
    assert (await pod.call("ADD", **changes)).refused(2, field, "nv-ipam", "mybrsfc")
    assert await pod.bare()


@pytest.mark.parametrize(
    "fields",
    [
        {"ipam": {}},
        {"bridge": None},
        {"args": {"cni": {"a": 1}}, "runtimeConfig": {"mac": "x"}, "capabilities": {"mac": True}, "dns": {}, "cniVersions": ["1.1.0"]},
    ],
)
async def test_field_that_may_be_ignored(pod: Sandbox, fields: dict[str, Any]) -> None:
    await pod.add(**fields)
    assert await pod.wired()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bridge": "br-other"}, ("br-other", "br-sfc")),
        ({"name": None}, ("name",)),
        ({"name": 1}, ("name",)),
        ({"name": "a\0b"}, ("cannot be called",)),
        ({"bridge": 1}, ("bridge",)),
    ],
)
async def test_invalid_configuration(pod: Sandbox, changes: dict[str, Any], words: tuple[str, ...]) -> None:
    assert (await pod.call("ADD", **changes)).refused(7, *words)
    assert await pod.bare()


async def test_version_needs_nothing(node: Node) -> None:
    for text in (b"", b"nonsense", b'{"cniVersion": "0.3.1"}'):
        answer = await node.call("VERSION", text=text)
        assert (answer.status, answer.errors) == (0, b"")
        assert answer.value == {"cniVersion": "1.1.0", "supportedVersions": ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]}


def test_executable_needs_the_standard_library_alone() -> None:
    """Run as the launcher runs it, and asked at its end what it has loaded."""
    program = (
        "import sys, runpy, atexit\n"
        "loaded = lambda: [m.__file__ for m in list(sys.modules.values()) if getattr(m, '__file__', None)]\n"
        "atexit.register(lambda: print(*loaded(), file=sys.stderr))\n"
        f"runpy.run_path({str(plugin.__file__)!r}, run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-IS", "-c", program],
        env={"CNI_COMMAND": "STATUS", "DPUCHAIN_CNI_SOCKET": "/nonexistent"},
        input=b'{"cniVersion": "1.1.0", "name": "n"}',
        capture_output=True,
        check=False,
    )
    assert json.loads(done.stdout)["code"] == 50, "it came as far as the socket"
    files = done.stderr.decode().split()
    library = Path(os.__file__).parent
    assert any("/_socket." in file for file in files)
    assert [file for file in files if "site-packages" in file or library not in Path(file).parents] == []


async def test_a_runtimes_library_drives_it(node: Node, pods: Pods, toolchain: Toolchain, tmp_path: Path) -> None:
    await toolchain.provide("cnitool")
    conflist = {
        "cniVersion": "1.1.0",
        "name": "mybrsfc",
        "plugins": [{key: value for key, value in node.config().items() if key not in ("cniVersion", "name")}],
    }
    (tmp_path / "10-mybrsfc.conflist").write_text(json.dumps(conflist))
    pod = await pods.make()
    environment = {"NETCONFPATH": str(tmp_path), "CNI_PATH": pod.environment()["CNI_PATH"], "CNI_ARGS": pod.environment()["CNI_ARGS"]}

    async def tool(command: str) -> str:
        arguments = [toolchain.path("cnitool"), command, "--ifname=eth1", "mybrsfc", pod.path]
        return await run("unshare", "--mount", "sh", "-c", OWN_CACHE, "sh", str(tmp_path), *arguments, environment=environment)

    await tool("status")
    result = json.loads(await tool("add"))
    link = await pod.link()
    assert link is not None
    assert [interface["mac"] for interface in result["interfaces"] if interface.get("sandbox") == pod.path] == [link["address"]]
    await tool("check")
    await tool("del")
    assert await pod.link() is None
    assert await node.ports() == set()
    await tool("add")
    with pytest.raises(LabError, match=r"cni\.dev/valid-attachments"):
        await tool("gc")  # it hands no list over, which the specification asks for; what its own cache knows it deletes itself
    assert await pod.link() is None
    assert await node.ports() == set()
