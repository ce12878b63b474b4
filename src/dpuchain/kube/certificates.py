"""Until when certificates are good."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime
from urllib.parse import urlsplit

from dpuchain.kube.errors import TRANSPORT_ERRORS, from_transport

SECONDS = 10.0


def end_of(certificate: bytes) -> datetime | None:
    """When the (first) certificate in PEM expires; None if it cannot be read."""
    from cryptography import x509  # noqa: PLC0415 - long-running processes never ask, and need not carry it

    try:
        return x509.load_pem_x509_certificate(certificate).not_valid_after_utc
    except ValueError:
        return None


async def end_of_servers(server: str, tls: ssl.SSLContext) -> datetime | None:
    """When the certificate that a server shows expires; None if `tls` does not look at it. Raises KubeErrors."""
    url = urlsplit(server)
    try:
        async with asyncio.timeout(SECONDS):
            _, writer = await asyncio.open_connection(url.hostname, url.port or 443, ssl=tls)
    except TRANSPORT_ERRORS as error:
        raise from_transport(error, f"look at the certificate of {server}") from error
    shown = writer.get_extra_info("peercert") or {}
    writer.close()
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(shown["notAfter"]), UTC) if "notAfter" in shown else None
