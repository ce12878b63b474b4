from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from dpuchain.agent.attachment import (
    LONGEST_DEVICE_NAME,
    CniError,
    Interface,
    Request,
    Result,
    ValidAttachment,
    decode_config,
    decode_request,
)
from dpuchain.api.meta import ObjectKey

POD = "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web-0"


def request(command: str = "ADD", config: dict[str, Any] | None = None, **fields: Any) -> Request:
    whole = {"cniVersion": "1.1.0", "name": "net", "type": "dpuchain-cni", **(config or {})}
    variables = {"container_id": "c", "netns": "/run/netns/x", "ifname": "eth1", "args": POD, **fields}
    parts = [command, *(variables[name] for name in ("container_id", "netns", "ifname", "args"))]
    return decode_request(b"\0".join([*(part.encode() for part in parts), msgspec.json.encode(whole)]))


def refusal(command: str = "ADD", **config: Any) -> CniError:
    with pytest.raises(CniError) as caught:
        decode_config(request(command, config), "br-sfc")
    return caught.value


def test_configuration_as_the_network_attachment_definition_has_it() -> None:
    config = decode_config(request(config={"bridge": "br-sfc", "args": {"cni": {}}, "ipam": {}}), "br-sfc")
    assert (config.cni_version, config.name, config.bridge, config.previous, config.valid) == ("1.1.0", "net", "br-sfc", None, UNSET)


def test_result_of_earlier_plugins_is_read_as_far_as_it_is_used() -> None:
    previous = {
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "eth1", "mac": "02:00:00:00:00:01", "sandbox": "/x", "mtu": 1500, "socketPath": "/y"}, {"name": "veth"}],
        "ips": [{"address": "192.0.2.1/24"}],
        "dns": {},
    }
    config = decode_config(request("CHECK", {"prevResult": previous}), "br-sfc")
    assert config.previous == Result("1.1.0", (Interface("eth1", "02:00:00:00:00:01", 1500, "/x"), Interface("veth")))


@pytest.mark.parametrize(
    ("given", "valid"),
    [([], ()), (None, None), ([{"containerID": "a", "ifname": "eth1"}], (ValidAttachment("a", "eth1"),))],
)
def test_attachments_that_the_runtime_knows(given: Any, valid: Any) -> None:
    assert decode_config(request("GC", {"cni.dev/valid-attachments": given}), "br-sfc").valid == valid


@pytest.mark.parametrize("field", ["ipam", "mtu", "vlan", "Bridge"])
@pytest.mark.parametrize("command", ["ADD", "CHECK", "STATUS"])
def test_unsupported_field_is_named_with_its_value(command: str, field: str) -> None:
    error = refusal(command, **{field: {"type": "x"}}, deviceID=7)
    assert error.code == 2
    assert f"{field}={{'type': 'x'}}" in error.message
    assert "deviceID=7" in error.message
    assert "name" not in error.message.split(":")[1]
    assert error.details


@pytest.mark.parametrize("command", ["DEL", "GC"])
def test_what_add_refuses_keeps_nothing_from_going(command: str) -> None:
    assert decode_config(request(command, {"ipam": {"type": "x"}, "bridge": "other", "mtu": 1}), "br-sfc").name == "net"


def test_bridge_of_another_agent() -> None:
    error = refusal(bridge="br-hbn")
    assert (error.code, "br-hbn" in error.message, "br-sfc" in error.details) == (7, True, True)


@pytest.mark.parametrize(
    "config", [{"name": None}, {"name": 1}, {"name": ""}, {"name": "a\0b"}, {"bridge": 1}, {"prevResult": []}, {"prevResult": 1}]
)
def test_invalid_configuration(config: dict[str, Any]) -> None:
    assert refusal(**config).code == 7


@pytest.mark.parametrize("command", ["VERSION", "add", "", "UPDATE"])
def test_command_that_is_none(command: str) -> None:
    with pytest.raises(CniError) as caught:
        request(command)
    assert caught.value.code == 4
    assert repr(command) in caught.value.message


@pytest.mark.parametrize(
    ("field", "variable", "value"),
    [("container_id", "CNI_CONTAINERID", "a/b"), ("ifname", "CNI_IFNAME", "a b"), ("netns", "CNI_NETNS", "")],
)
def test_variable_that_is_refused_is_named(field: str, variable: str, value: str) -> None:
    with pytest.raises(CniError, match=variable) as caught:
        request("ADD", None, **{field: value})
    assert caught.value.code == 4


@pytest.mark.parametrize("version", [None, "", "0.2.0", "1.2.0", 1, [], {}])
def test_version_that_is_not_supported(version: Any) -> None:
    with pytest.raises(CniError, match="cniVersion") as caught:
        request(config={"cniVersion": version})
    assert caught.value.code == 1


@pytest.mark.parametrize("name", ["eth1", "a", "net1.100", "p0_if_brsfc-xyz", "...", ".a"])
def test_interface_name(name: str) -> None:
    assert request(ifname=name).ifname == name


@pytest.mark.parametrize("name", [".", "..", "a/b", "a:b", "a b", "a\tb", "sixteen-letters-", "é"])
def test_name_that_no_interface_can_have(name: str) -> None:
    with pytest.raises(CniError) as caught:
        request(ifname=name)
    assert caught.value.code == 4


def test_pod_is_named_by_the_arguments() -> None:
    assert request().pod == ObjectKey("ns", "web-0")
    assert request(args=POD + ";K8S_POD_UID=u=1;").arguments["K8S_POD_UID"] == "u=1"


@pytest.mark.parametrize("text", ["", "K8S_POD_NAME=a", "K8S_POD_NAMESPACE=a", "a", "K8S_POD_NAME=;K8S_POD_NAMESPACE=a"])
@pytest.mark.parametrize("suffix", ["", ";IgnoreUnknown=1"])
def test_arguments_that_name_no_pod(text: str, suffix: str) -> None:
    with pytest.raises(CniError, match="CNI_ARGS") as caught:
        _ = request(args=text + suffix).pod
    assert caught.value.code == 4


ATTACHMENT = st.tuples(st.text(), st.text(max_size=15))


@given(ATTACHMENT)
def test_prefix_leaves_room_in_a_devices_name_and_is_always_the_same(attachment: tuple[str, str]) -> None:
    prefix = prefix_of(attachment)
    assert prefix == prefix_of(attachment)
    assert prefix.startswith("veth")
    assert prefix.isalnum()
    assert len(prefix) + 3 == LONGEST_DEVICE_NAME


@given(ATTACHMENT, ATTACHMENT)
def test_prefixes_of_two_attachments_differ(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (prefix_of(one) == prefix_of(other)) == (one == other)


def test_no_two_of_many_attachments_share_a_prefix() -> None:
    attachments = [(f"{number:064x}", f"eth{index}") for number in range(5_000) for index in (1, 2)]
    assert len({prefix_of(attachment) for attachment in attachments}) == len(attachments)


def prefix_of(attachment: tuple[str, str]) -> str:
    return Request("ADD", {}, container_id=attachment[0], ifname=attachment[1]).prefix
