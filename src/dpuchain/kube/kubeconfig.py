"""How an API server is reached and how we are known to it: from a kubeconfig, or from inside a pod."""

from __future__ import annotations

import base64
import os
import ssl
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from lightkube.config.kubeconfig import KubeConfig
from lightkube.core.exceptions import ConfigError

from dpuchain.kube.errors import KubeError

REMEDY = "write one with `kubectl config view --raw --minify`"
FILES = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
"""Fields of a kubeconfig that name files."""
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class InvalidKubeconfig(KubeError):
    """A kubeconfig cannot be read or used; the message names the part and the remedy, never a credential."""

    retryable = False


@dataclass(frozen=True)
class Endpoint:
    """An API server, the TLS context to speak to it with, and the token for the next request (None with client certificates)."""

    server: str
    tls: ssl.SSLContext | None
    token: Callable[[], str | None]
    certificate: bytes | None = None
    """Our own, in PEM, where we are known by one."""

    @property
    def authorities(self) -> frozenset[bytes]:
        """The certificates, in DER, one of which must vouch for the server; none where anybody may."""
        verified = self.tls is not None and self.tls.verify_mode == ssl.CERT_REQUIRED
        return frozenset(self.tls.get_ca_certs(binary_form=True)) if self.tls is not None and verified else frozenset()


def read(source: Path | Mapping[str, Any], context: str | None = None) -> Endpoint:
    """The endpoint that a kubeconfig (a file, or its decoded content) names in `context` or its current context.

    Raises InvalidKubeconfig. Exec and auth-provider plugins are refused: controllers run where no such helper is.
    """
    where = str(source) if isinstance(source, Path) else "kubeconfig"
    try:
        content = yaml.safe_load(source.read_text()) if isinstance(source, Path) else source
        if not isinstance(content, Mapping):
            raise InvalidKubeconfig(f"{where}: not a kubeconfig; {REMEDY}")
        chosen = KubeConfig.from_dict({key: value for key, value in content.items() if value is not None}).get(context)
    except yaml.YAMLError as error:  # its text quotes the file, and there are credentials in it
        raise InvalidKubeconfig(_not_yaml(where, error)) from None
    except KeyError as error:
        raise InvalidKubeconfig(f"{where}: {error} is missing; {REMEDY}") from error
    except (ConfigError, TypeError, ValueError, OSError) as error:
        raise InvalidKubeconfig(f"{where}: {error}; {REMEDY}") from error
    user = chosen.user
    if "@" in chosen.cluster.server:  # each error names the server, so its name must be nothing that is to be kept secret
        raise InvalidKubeconfig(f"{where}: server has a user or a password in its URL; give a token or a client certificate instead")
    if not chosen.cluster.server.startswith(("https://", "http://")):
        raise InvalidKubeconfig(f"{where}: server {chosen.cluster.server!r} is no URL, such as https://HOST:6443")
    if user is not None and (user.exec or user.auth_provider or user.username or user.password):
        raise InvalidKubeconfig(
            f"{where}: user has a password, or an exec or auth-provider plugin; give it a token or a client certificate instead"
        )
    folder = source.parent if isinstance(source, Path) else Path()
    return Endpoint(
        server=chosen.cluster.server.rstrip("/"),
        tls=_tls(chosen.cluster, user, folder, where) if chosen.cluster.server.startswith("https:") else None,
        token=_token(user, folder),
        certificate=_certificate(user, folder),
    )


def found(explicit: Path | None, environment: Mapping[str, str]) -> dict[str, Any]:
    """The kubeconfig that kubectl would use, as content: `explicit`, else the files in KUBECONFIG, else ~/.kube/config.

    Of several files the first that names a cluster, user or context counts, and the first `current-context`. Raises InvalidKubeconfig.
    """
    listed = [Path(part) for part in environment.get("KUBECONFIG", "").split(os.pathsep) if part]
    usual = Path(environment.get("HOME", "/")) / ".kube" / "config"
    paths = [explicit] if explicit is not None else [path for path in listed if path.exists()] or listed or [usual]
    merged: dict[str, Any] = {"clusters": [], "users": [], "contexts": []}
    for path in paths:
        content = _decoded(path)
        merged.setdefault("current-context", content.get("current-context") or None)
        merged["current-context"] = merged["current-context"] or content.get("current-context")
        for kind in ("clusters", "users", "contexts"):
            named = {entry.get("name") for entry in merged[kind]}
            merged[kind] += [_anchored(entry, path.parent) for entry in content.get(kind) or () if entry.get("name") not in named]
    return merged


def _decoded(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidKubeconfig(f"{path}: {error}; give another with --kubeconfig, or set KUBECONFIG") from error
    except yaml.YAMLError as error:
        raise InvalidKubeconfig(_not_yaml(str(path), error)) from None
    parts = [content.get(kind) or [] for kind in ("clusters", "users", "contexts")] if isinstance(content, dict) else [None]
    if not all(isinstance(part, list) and all(isinstance(entry, dict) for entry in part) for part in parts):
        raise InvalidKubeconfig(f"{path}: not a kubeconfig; {REMEDY}")
    return dict(content)


def _anchored(entry: dict[str, Any], folder: Path) -> dict[str, Any]:
    """An entry in which files are named so that they are found from everywhere."""
    return {
        key: {field: str(folder / value) if field in FILES and value else value for field, value in part.items()}
        if isinstance(part, dict)
        else part
        for key, part in entry.items()
    }


def namespace_in(content: Mapping[str, Any], context: str | None) -> str:
    """The namespace that a kubeconfig's context names; empty if it names none."""
    name = context or content.get("current-context")
    chosen = next((entry.get("context") or {} for entry in content.get("contexts") or () if entry.get("name") == name), {})
    return str(chosen.get("namespace") or "")


def in_cluster(environment: Mapping[str, str], folder: Path = SERVICE_ACCOUNT) -> Endpoint:
    """The endpoint that Kubernetes gives to a pod; its token is read anew for each request, since the kubelet rotates it."""
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not (folder / "token").exists():
        raise InvalidKubeconfig("no --kubeconfig was given and this is not a pod with a service account; give --kubeconfig FILE")
    address = f"[{host}]" if ":" in host else host
    authority = folder / "ca.crt"
    try:
        tls = ssl.create_default_context(cafile=str(authority))
    except OSError as error:
        raise InvalidKubeconfig(f"{authority}: certificate authority cannot be used: {error}") from error
    return Endpoint(f"https://{address}:{port}", tls, lambda: (folder / "token").read_text().strip())


def _not_yaml(where: str, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"{where}: not YAML{f' in line {mark.line + 1}' if mark else ''}; {REMEDY}"


def _token(user: Any, folder: Path) -> Callable[[], str | None]:
    if user is None:
        return lambda: None
    path = getattr(user, "token_file", None)
    if path:
        return lambda: (folder / path).read_text().strip()
    return lambda: user.token


def _certificate(user: Any, folder: Path) -> bytes | None:
    return None if user is None else _content(user.client_cert_data, user.client_cert, folder)


def _tls(cluster: Any, user: Any, folder: Path, where: str) -> ssl.SSLContext:
    try:
        authority = _content(cluster.certificate_auth_data, cluster.certificate_auth, folder)
        tls = ssl.create_default_context(cadata=authority.decode() if authority else None)
        if cluster.insecure:
            tls.check_hostname = False
            tls.verify_mode = ssl.CERT_NONE
        if user is not None:
            certificate = _content(user.client_cert_data, user.client_cert, folder)
            key = _content(user.client_key_data, user.client_key, folder)
            if bool(certificate) != bool(key):
                raise InvalidKubeconfig(f"{where}: user has a client certificate without its key, or a key without its certificate")
            if certificate and key:
                _load(tls, certificate, key)
    except (OSError, ValueError, ssl.SSLError) as error:
        raise InvalidKubeconfig(f"{where}: certificate authority or client certificate cannot be used: {error}") from error
    return tls


def _content(data: str | None, path: str | None, folder: Path) -> bytes | None:
    if data:
        return base64.b64decode("".join(data.split()), validate=True)
    return (folder / path).read_bytes() if path else None


def _load(tls: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Give `tls` the client certificate; the ssl module takes it from files only, so it passes through one that none but us can read."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(certificate + b"\n" + key)
        file.flush()
        tls.load_cert_chain(file.name, password="")  # without one, OpenSSL would ask for it on the terminal
