"""How an API server is reached and how we are known to it: from a kubeconfig, or from inside a pod."""

from __future__ import annotations

import base64
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
        mark = getattr(error, "problem_mark", None)
        raise InvalidKubeconfig(f"{where}: not YAML{f' in line {mark.line + 1}' if mark else ''}; {REMEDY}") from None
    except KeyError as error:
        raise InvalidKubeconfig(f"{where}: {error} is missing; {REMEDY}") from error
    except (ConfigError, TypeError, ValueError, OSError) as error:
        raise InvalidKubeconfig(f"{where}: {error}; {REMEDY}") from error
    user = chosen.user
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
    )


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


def _token(user: Any, folder: Path) -> Callable[[], str | None]:
    if user is None:
        return lambda: None
    path = getattr(user, "token_file", None)
    if path:
        return lambda: (folder / path).read_text().strip()
    return lambda: user.token


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
