"""The certificate of an endpoint: given in files, or made by the process for itself.

`python -m dpuchain.runtime.certificates NAME` prints key and certificate in PEM. It runs as a process of its own since the library takes
9 MB that nobody needs afterwards.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

_log = structlog.get_logger(__name__)


async def self_signed(name: str) -> ssl.SSLContext:
    """A context for a server with a new certificate for `name` that nobody has vouched for: it hides what is said, and no more.

    RuntimeError if it cannot be made.
    """
    arguments = (sys.executable, "-m", __name__, name)
    process = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    output, errors = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"no certificate could be made: {errors.decode(errors='replace').strip()}")
    context = _context()
    with tempfile.NamedTemporaryFile() as file:  # the ssl module takes it from files only; none but us can read this one
        file.write(output)
        file.flush()
        context.load_cert_chain(file.name)
    return context


def from_folder(folder: Path) -> ssl.SSLContext:
    """A context for a server with the certificate in `folder` (tls.crt, tls.key), and with what is there later, once it is exchanged.

    ValueError if it cannot be used. One that is exchanged for what cannot be used goes on being shown, which the log tells.
    """
    files = folder / "tls.crt", folder / "tls.key"
    try:
        seen, shown = _stamp(files), _loaded(files)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"no certificate in {folder}: {_reason(error)}") from None

    def show(connection: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        nonlocal seen, shown
        try:
            now = _stamp(files)
            if now != seen:
                seen, shown = now, _loaded(files)
                _log.info("another certificate is shown", folder=str(folder))
        except (OSError, ssl.SSLError) as error:
            _log.warning("the certificate cannot be used; the one before is shown", folder=str(folder), error=_reason(error))
        connection.context = shown

    context = _loaded(files)
    context.sni_callback = show
    return context


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _loaded(files: Sequence[Path]) -> ssl.SSLContext:
    context = _context()
    certificate, key = files
    context.load_cert_chain(certificate, key, password="")  # without one, OpenSSL would ask for it on the terminal
    return context


def _stamp(files: Sequence[Path]) -> list[tuple[int, int]]:
    """What tells that files were exchanged: Kubernetes does so by another link to another folder."""
    return [(status.st_ino, status.st_mtime_ns) for status in map(Path.stat, files)]


def _reason(error: OSError) -> str:
    return (error.reason if isinstance(error, ssl.SSLError) else error.strerror) or type(error).__name__


def _make(name: str) -> bytes:
    from cryptography import x509  # noqa: PLC0415 - see above
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.x509.oid import NameOID  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    begin = datetime.now(UTC) - timedelta(minutes=5)
    certificate = (
        x509.CertificateBuilder(issuer_name=subject, subject_name=subject, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))  # RFC 5280, 4.1.2.5: never expires
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private + certificate.public_bytes(encoding)


if __name__ == "__main__":
    sys.stdout.buffer.write(_make(sys.argv[1]))
