"""What can be made of a kubeconfig, and that no credential is ever quoted."""

from __future__ import annotations

import base64
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dpuchain.kube.client import Client
from dpuchain.kube.errors import Unreachable
from dpuchain.kube.kubeconfig import InvalidKubeconfig, found, in_cluster, namespace_in, read

SECRET = "kj3h4kjh5secret"


def pair(passphrase: bytes | None = None) -> tuple[bytes, bytes]:
    """A certificate and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(datetime.now(UTC)).not_valid_after(datetime.now(UTC) + timedelta(days=1))
    how = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM), pem


CERTIFICATE, KEY = pair()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def config(cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None, **top: Any) -> dict[str, Any]:
    return {
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443/"} | (cluster or {})}],
        "users": [{"name": "u", "user": user if user is not None else {"token": SECRET}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    } | top


def test_token(tmp_path: Path) -> None:
    endpoint = read(config())
    assert endpoint.server == "https://127.0.0.1:6443"
    assert endpoint.token() == SECRET
    assert endpoint.tls is not None
    assert endpoint.tls.verify_mode == ssl.CERT_REQUIRED
    file = tmp_path / "config"
    file.write_text(yaml.safe_dump(config()))
    assert read(file).token() == SECRET


def test_a_token_in_a_file_is_read_anew_each_time(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(yaml.safe_dump(config(user={"tokenFile": "token"})))
    (tmp_path / "token").write_text("first\n")
    endpoint = read(file)
    assert endpoint.token() == "first"
    (tmp_path / "token").write_text("second\n")
    assert endpoint.token() == "second"


def test_certificates_as_data_and_as_files(tmp_path: Path) -> None:
    data: dict[str, Any] = {"client-certificate-data": b64(CERTIFICATE), "client-key-data": b64(KEY)}
    endpoint = read(config({"certificate-authority-data": b64(CERTIFICATE)}, data))
    assert endpoint.tls is not None
    assert endpoint.token() is None
    assert endpoint.tls.cert_store_stats()["x509"] == 1
    (tmp_path / "ca.crt").write_bytes(CERTIFICATE)
    (tmp_path / "me.crt").write_bytes(CERTIFICATE)
    (tmp_path / "me.key").write_bytes(KEY)
    file = tmp_path / "config"
    files: dict[str, Any] = {"client-certificate": "me.crt", "client-key": "me.key"}
    file.write_text(yaml.safe_dump(config({"certificate-authority": "ca.crt"}, files)))
    endpoint = read(file)
    assert endpoint.tls is not None
    assert endpoint.tls.cert_store_stats()["x509"] == 1


def test_insecure_and_plain_servers() -> None:
    insecure = read(config({"insecure-skip-tls-verify": True}))
    assert insecure.tls is not None
    assert (insecure.tls.verify_mode, insecure.tls.check_hostname) == (ssl.CERT_NONE, False)
    plain = read(config({"server": "http://127.0.0.1:8080"}))
    assert plain.tls is None
    assert insecure.authorities == plain.authorities == frozenset()


def test_another_context_and_none() -> None:
    two = config(
        clusters=[{"name": n, "cluster": {"server": f"https://{n}"}} for n in ("c", "d")],
        contexts=[{"name": "x", "context": {"cluster": "c", "user": "u"}}, {"name": "y", "context": {"cluster": "d"}}],
    )
    assert (read(two).server, read(two, "y").server, read(two, "y").token()) == ("https://c", "https://d", None)
    assert read(config(users=None, contexts=[{"name": "x", "context": {"cluster": "c"}}])).token() is None


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (config(None, None, **{"current-context": None}), "No current context"),
        (config(None, None, **{"current-context": "z"}), "Context 'z' not found"),
        (config(clusters=None), "'clusters' is missing"),
        (config(clusters=[]), "'c' is missing"),
        (config(users=[]), "'u' is missing"),
        (config(clusters=5), "write one with"),
        (config(clusters=["text"]), "write one with"),
        (config({"server": 5}), "Expected `str`"),
        (config({"server": "127.0.0.1:6443"}), "server '127.0.0.1:6443' is no URL, such as https://HOST:6443"),
        (config(user={"token": 5}), "Expected `str"),
        (config(user={"exec": {"apiVersion": "v1", "command": SECRET}}), "exec or auth-provider plugin; give it a token or a client"),
        (config(user={"auth-provider": {"name": SECRET}}), "exec or auth-provider plugin"),
        (config(user={"username": "admin", "password": SECRET}), "password"),
        (config({"certificate-authority-data": "%%%"}), "certificate authority or client certificate cannot be used"),
        (config({"certificate-authority-data": b64(b"nonsense")}), "cannot be used"),
        (config({"certificate-authority-data": b64(b"\xff")}), "cannot be used"),
        (config({"certificate-authority": "/nowhere/ca.crt"}), "/nowhere/ca.crt"),
        (config(user={"client-certificate-data": b64(CERTIFICATE)}), "client certificate without its key"),
        (config(user={"client-key-data": b64(KEY)}), "key without its certificate"),
        (config(user={"client-certificate-data": b64(CERTIFICATE), "client-key-data": b64(pair()[1])}), "cannot be used"),
        (config(user={"client-certificate-data": b64(CERTIFICATE), "client-key-data": b64(SECRET.encode())}), "cannot be used"),
        (config(user={"client-certificate-data": b64(CERTIFICATE), "client-key-data": b64(pair(b"phrase")[1])}), "cannot be used"),
        ({}, "'clusters' is missing"),
    ],
)
def test_what_is_wrong_is_named_and_no_credential_with_it(bad: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidKubeconfig) as caught:
        read(bad)
    assert str(caught.value).startswith("kubeconfig: ")
    assert text in str(caught.value)
    assert SECRET not in str(caught.value)
    assert b64(KEY)[40:80] not in str(caught.value)
    assert not caught.value.retryable


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "text",
        "users: [",
        f"users:\n- token: {SECRET}\n\t- {SECRET}",
        f"users: *{SECRET}",
        f"users: !{SECRET} x",
        f"a: b: {SECRET}",
        f'a: "{SECRET}',
        f"a: \x00{SECRET}",
        f"{SECRET}: [}}",
    ],
)
def test_a_file_that_is_no_kubeconfig_is_named_and_not_quoted(tmp_path: Path, content: str) -> None:
    file = tmp_path / "config"
    file.write_text(content)
    with pytest.raises(InvalidKubeconfig) as caught:
        read(file)
    error: BaseException | None = caught.value
    assert str(error).startswith(f"{file}: ")
    while error is not None:
        assert SECRET not in str(error), "a cause is logged too"
        error = error.__cause__


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for file in (tmp_path / "absent", tmp_path, tmp_path / "binary"):
        with pytest.raises(InvalidKubeconfig, match=str(file)):
            read(file)


def test_in_a_pod(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first")
    (tmp_path / "ca.crt").write_bytes(CERTIFICATE)
    there = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    endpoint = in_cluster(there, tmp_path)
    assert (endpoint.server, endpoint.token()) == ("https://10.0.0.1:443", "first")
    (tmp_path / "token").write_text("second")
    assert endpoint.token() == "second"
    assert (
        in_cluster({"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}, tmp_path).server == "https://[fd00::1]:6443"
    )


def test_not_in_a_pod(tmp_path: Path) -> None:
    for environment in ({}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}):
        with pytest.raises(InvalidKubeconfig, match="give --kubeconfig FILE"):
            in_cluster(environment, tmp_path)


@pytest.mark.parametrize("ca", [b"nonsense", None])
def test_in_a_pod_without_a_usable_authority(tmp_path: Path, ca: bytes | None) -> None:
    (tmp_path / "token").write_text(SECRET)
    if ca is not None:
        (tmp_path / "ca.crt").write_bytes(ca)
    with pytest.raises(InvalidKubeconfig, match=r"ca\.crt"):
        in_cluster({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, tmp_path)


@pytest.mark.parametrize("token", [b"\xff\xfe", f"a\r\n{SECRET}".encode(), None])
async def test_a_token_that_cannot_be_sent_is_an_error_of_the_request(tmp_path: Path, token: bytes | None) -> None:
    if token is not None:
        (tmp_path / "token").write_bytes(token)
    file = tmp_path / "config"
    file.write_text(yaml.safe_dump(config({"server": "http://127.0.0.1:1"}, {"tokenFile": "token"})))
    async with Client.from_kubeconfig(file, user_agent="tests") as client:
        with pytest.raises(Unreachable) as caught:
            await client.request("GET", "/")
    assert SECRET not in str(caught.value)


def test_files_are_found_and_merged_as_kubectl_does(tmp_path: Path) -> None:
    first, second, usual = tmp_path / "a" / "config", tmp_path / "b", tmp_path / ".kube" / "config"
    for path in (first, usual):
        path.parent.mkdir()
    first.write_text(yaml.safe_dump(config(user={"client-key": "k.pem", "token": SECRET}) | {"current-context": ""}))
    other = config(cluster={"server": "https://127.0.0.2"}) | {
        "contexts": [{"name": "y", "context": {"cluster": "c", "user": "u", "namespace": "n"}}]
    }
    second.write_text(yaml.safe_dump(other | {"current-context": "y"}))
    usual.write_text(yaml.safe_dump(config()))
    home = {"HOME": str(tmp_path)}
    merged = found(None, home | {"KUBECONFIG": f"{first}:{tmp_path / 'absent'}:{second}"})
    assert merged["current-context"] == "y"
    assert [entry["cluster"]["server"] for entry in merged["clusters"]] == ["https://127.0.0.1:6443/"]
    assert merged["users"][0]["user"]["client-key"] == str(tmp_path / "a" / "k.pem")
    assert (namespace_in(merged, None), namespace_in(merged, "x")) == ("n", "")
    assert found(None, home)["current-context"] == "x"
    assert found(second, home | {"KUBECONFIG": str(first)})["current-context"] == "y"
    assert read(found(second, {}), "y").server == "https://127.0.0.2"


@pytest.mark.parametrize("text", [None, "[", "- 1", "clusters: 5", "clusters: [5]", f"users: [{SECRET}"])
def test_file_that_cannot_be_used_is_named_and_not_quoted(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "config"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InvalidKubeconfig) as caught:
        found(path, {})
    assert str(path) in str(caught.value)
    assert SECRET not in str(caught.value)
