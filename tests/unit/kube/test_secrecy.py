"""No secret of a kubeconfig is in an error about it, however it is spoiled, nor in what a log tells of that error."""

from __future__ import annotations

import base64
import copy
import json
import traceback
from pathlib import Path
from typing import Any

import pytest

from dpuchain.api.kinds import SECRET
from dpuchain.api.meta import ObjectKey
from dpuchain.kube.client import Client
from dpuchain.kube.errors import KubeError
from dpuchain.kube.kubeconfig import InvalidKubeconfig, found, read
from dpuchain.kube.secrets import client_by, kubeconfig_in

MARKER = "m4rk3r-of-a-s3cret"
ENCODED = base64.b64encode(MARKER.encode()).decode()
PEM = base64.b64encode(f"-----BEGIN PRIVATE KEY-----\n{MARKER}\n-----END PRIVATE KEY-----".encode()).decode()
GOOD: dict[str, Any] = {
    "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
    "users": [{"name": "u", "user": {"token": MARKER}}],
    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    "current-context": "x",
}
USERS: dict[str, dict[str, Any]] = {
    "password": {"username": "ann", "password": MARKER},
    "exec": {"exec": {"apiVersion": "v1", "command": MARKER, "env": [{"name": "A", "value": MARKER}]}},
    "provider": {"auth-provider": {"name": "x", "config": {"secret": MARKER}}},
    "key without certificate": {"client-key-data": PEM},
    "key that is none": {"client-certificate-data": PEM, "client-key-data": PEM},
    "key that is not base64": {"client-certificate-data": MARKER, "client-key-data": MARKER},
    "token of another kind": {"token": {"value": MARKER}},
    "token in a list": {"token": [MARKER]},
    "unknown field": {"secret": MARKER},
}
SERVERS = (f"https://ann:{MARKER}@127.0.0.1:1", f"ann:{MARKER}@127.0.0.1", f"https://{MARKER}@[", f"ftp://ann:{MARKER}@127.0.0.1")
TEXTS = (
    f"token: {MARKER}: x",
    f"token: [{MARKER}",
    f"'{MARKER}",
    f"- {MARKER}",
    MARKER,
    f"users: {MARKER}",
    f"users: [{{user: {MARKER}}}]",
    f"\x00{MARKER}",
)


def spoiled() -> dict[str, str]:
    """Kubeconfigs as texts, by what is wrong."""
    contents = {f"user: {name}": {**GOOD, "users": [{"name": "u", "user": user}]} for name, user in USERS.items()}
    contents |= {
        f"server {number}": {**GOOD, "clusters": [{"name": "c", "cluster": {"server": server}}]} for number, server in enumerate(SERVERS)
    }
    authority = copy.deepcopy(GOOD)
    authority["clusters"][0]["cluster"]["certificate-authority-data"] = ENCODED
    contents |= {"authority": authority, "users": {**GOOD, "users": MARKER}, "no context": {**GOOD, "contexts": []}}
    return {name: json.dumps(content) for name, content in contents.items()} | {f"text {n}": text for n, text in enumerate(TEXTS)}


def told(error: BaseException) -> str:
    """All that a log can tell of it, the errors behind it included."""
    return "".join(traceback.format_exception(error)) + str(error)


def check(error: BaseException) -> None:
    text = told(error)
    # The lines of code that a traceback quotes have no values; whatever else it says must not have any either.
    assert MARKER not in text
    assert ENCODED not in text
    assert PEM not in text


@pytest.mark.parametrize("name", spoiled())
async def test_kubeconfig_that_cannot_be_used_is_told_of_without_its_secrets(name: str, tmp_path: Path) -> None:
    text = spoiled()[name]
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    for use in (lambda: client_by(text.encode(), "tests"), lambda: read(path), lambda: read(found(path, {}))):
        try:
            made = use()
        except InvalidKubeconfig as error:
            check(error)
            continue
        client = made if isinstance(made, Client) else Client(made, user_agent="tests")
        async with client:
            with pytest.raises(KubeError) as caught:
                await client.get(SECRET, ObjectKey("n", "s"))
            check(caught.value)


@pytest.mark.parametrize("token", [f"{MARKER}\n", f"{MARKER}\r\nX: y", f"{MARKER}ü", f"{MARKER}\u2028", f"\x00{MARKER}", f" {MARKER}"])
async def test_token_that_cannot_be_sent_is_not_quoted(token: str) -> None:
    content = {**GOOD, "users": [{"name": "u", "user": {"token": token}}]}
    async with Client.from_kubeconfig(content, user_agent="tests") as client:
        with pytest.raises(KubeError) as caught:
            await client.get(SECRET, ObjectKey("n", "s"))
        check(caught.value)


@pytest.mark.parametrize("data", [{"super-admin.conf": MARKER}, {"value": f"{MARKER}!"}, {"value": ENCODED}])
def test_secret_without_a_kubeconfig_is_not_quoted(data: dict[str, str]) -> None:
    with pytest.raises(InvalidKubeconfig) as caught:
        client_by(kubeconfig_in(data), "tests")
    check(caught.value)
