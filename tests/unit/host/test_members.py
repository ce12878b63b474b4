"""The kubeconfig of a DPU cluster, from its Secret."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from dpuchain.api.meta import ObjectKey
from dpuchain.host.members import Member
from dpuchain.kube.kubeconfig import InvalidKubeconfig
from dpuchain.kube.secrets import kubeconfig_in

KEY = ObjectKey("dpf", "north")
GOOD: dict[str, Any] = {
    "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443"}}],
    "users": [{"name": "u", "user": {"token": "hush"}}],
    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    "current-context": "x",
}


def test_kubeconfig_is_what_the_key_holds() -> None:
    assert kubeconfig_in({"admin.conf": base64.b64encode(b"text").decode(), "other": "!"}) == b"text"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "no such Secret"),
        ({}, "does not exist or is empty"),
        ({"value": "dGV4dA=="}, "does not exist or is empty"),
        ({"admin.conf": ""}, "does not exist or is empty"),
        ({"admin.conf": "hush!"}, "is not base64"),
    ],
)
def test_secret_without_a_kubeconfig_is_told(data: dict[str, str] | None, words: str) -> None:
    with pytest.raises(InvalidKubeconfig, match=words) as caught:
        kubeconfig_in(data)
    assert "hush" not in str(caught.value)


def test_good_kubeconfig_makes_a_member_that_shows_no_credentials() -> None:
    member = Member.of(KEY, json.dumps(GOOD).encode())
    assert member.client.server == "https://127.0.0.1:6443"
    assert member.problem == "is being read for the first time"
    assert "hush" not in repr(member)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{hush", "is not YAML"),
        (b"\xff\xfe\xfdhush", "is not YAML"),
        (b"when: 2024-99-99 # hush", "is not YAML"),
        (b"[" * 5000 + b"hush", "is not YAML"),
        (b"- hush", "is not a mapping"),
        (b"", "is not a mapping"),
        (json.dumps({**GOOD, "clusters": [{"name": "c", "cluster": {"server": 5}}]}).encode(), "server"),
        (json.dumps({**GOOD, "current-context": ["x"]}).encode(), "kubeconfig"),
        (json.dumps({**GOOD, "users": [{"name": "u", "user": {"tokenFile": "/etc/hostname"}}]}).encode(), r"names a file \(tokenFile\)"),
        (
            json.dumps({**GOOD, "clusters": [*GOOD["clusters"], {"name": "d", "cluster": {"certificate-authority": "/ca"}}]}).encode(),
            r"names a file \(certificate-authority\)",
        ),
    ],
)
def test_useless_kubeconfig_is_refused_without_a_word_of_it(content: bytes, words: str) -> None:
    with pytest.raises(InvalidKubeconfig, match=words) as caught:
        Member.of(KEY, content)
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None or "hush" not in str(caught.value.__cause__)
