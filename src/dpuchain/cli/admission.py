"""`dpuchain admission`."""

from __future__ import annotations

from pathlib import Path

import click

from dpuchain.admission.process import Settings, run
from dpuchain.admission.registration import Endpoint, Mode
from dpuchain.admission.server import PATH
from dpuchain.api.meta import ObjectKey
from dpuchain.api.names import OPERATOR_NAMESPACE
from dpuchain.cli import options
from dpuchain.runtime.endpoints import Endpoints


def _service(_context: click.Context, _option: click.Parameter, text: str) -> ObjectKey:
    namespace, slash, name = text.partition("/")
    if not slash or not namespace or not name:
        raise click.BadParameter(f"{text!r} is not NAMESPACE/NAME")
    return ObjectKey(namespace, name)


def _url(_context: click.Context, _option: click.Parameter, text: str | None) -> str | None:
    if text is not None and not text.startswith("https://"):
        raise click.BadParameter(f"{text!r} is no URL of HTTPS, such as https://192.0.2.1:9443{PATH}")
    return text


@click.command(context_settings={"auto_envvar_prefix": "DPUCHAIN"})
@click.option(
    "--mode",
    type=click.Choice(["host", "dpu"]),
    default="host",
    show_default=True,
    help="Which cluster this is: the host cluster, or a DPU cluster.",
)
@click.option("--address", default="0.0.0.0:9443", show_default=True, metavar="HOST:PORT", help="Where to answer the API server.")
@click.option(
    "--service",
    callback=_service,
    default=f"{OPERATOR_NAMESPACE}/dpuchain-admission",
    show_default=True,
    metavar="NAMESPACE/NAME",
    help="Service by which the API server reaches us, on its port 443.",
)
@click.option("--url", callback=_url, help=f"URL by which it reaches us instead, such as https://192.0.2.1:9443{PATH}.")
@click.option(
    "--certificate-secret",
    "secret",
    metavar="NAME",
    help=f"Secret in {OPERATOR_NAMESPACE} with tls.crt, tls.key and ca.crt that somebody else keeps, such as cert-manager.  "
    "[default: make and renew one]",
)
@click.option(
    "--failure-policy",
    type=click.Choice(["Ignore", "Fail"]),
    default="Ignore",
    show_default=True,
    help="What the API server does when nobody answers; the controllers hold all rules too.",
)
@options.common
def command(
    mode: Mode,
    service: ObjectKey,
    url: str | None,
    kubeconfig: Path | None,
    endpoints: Endpoints,
    log_level: str,
    **settings: str,
) -> None:
    """Refuse objects that cannot work, and warn of those that do not work yet, before they are stored."""
    client = options.client(kubeconfig, "admission")
    chosen = Settings(mode=mode, endpoint=Endpoint(url, service), **settings)
    options.run(lambda: run(client, chosen, endpoints), log_level)
