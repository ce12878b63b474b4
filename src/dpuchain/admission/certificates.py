"""The certificate that API servers see: an authority of its own, and what it issues, renewed long before it ends.

All of it is in one Secret, so that each replica shows the same. The new authority is in the bundle with the old one, which is believed
until it ends.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import ssl
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 3650
SERVING_DAYS = 90
BACKDATED = timedelta(minutes=5)
"""How far the clocks of two machines may be apart."""
CA, CA_KEY, CERTIFICATE, KEY = "ca.crt", "ca.key", "tls.crt", "tls.key"
"""Keys in the Secret; cert-manager's have the same, but for the authority's key."""


class Unusable(ValueError):
    """A Secret does not hold a certificate that can be shown; the message says why, without quoting it."""


@dataclass(frozen=True)
class Shown:
    """What is shown to API servers, what they are to believe, and when it is to be replaced."""

    certificate: bytes
    key: bytes
    bundle: bytes
    due: datetime


def shown(data: Mapping[str, str] | None) -> Shown:
    """What a Secret's data holds; None stands for a Secret that is not there. Raises Unusable."""
    if data is None:
        raise Unusable("does not exist; have it made, by cert-manager for instance")
    content = {name: _decoded(data, name) for name in (CERTIFICATE, KEY)}
    bundle = _decoded(data, CA) if data.get(CA) else b""
    leaf = _certificates(CERTIFICATE, content[CERTIFICATE])[0]
    return Shown(content[CERTIFICATE], content[KEY], bundle, _due(leaf))


def renewed(data: Mapping[str, str] | None, hosts: Sequence[str], now: datetime) -> dict[str, str] | None:
    """What the Secret is to hold instead of `data` (None: there is no Secret); None if it may stay.

    The authority and what it issued are each replaced when two thirds of their time are over, when they cannot be read, and when the
    certificate is not for `hosts`.
    """
    authority = _authority(data, now)
    if authority is None:
        old = _believed(data, now)
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _issue("dpuchain admission authority", key, None, now, [])
        bundle = [certificate, *old]
    else:
        if data is not None and _is_good(data, authority.bundle[0], hosts, now):
            return None
        key, bundle = authority.key, list(authority.bundle)
    serving = ec.generate_private_key(ec.SECP256R1())
    leaf = _issue("dpuchain admission", serving, (bundle[0], key), now, hosts)
    content = {CA: b"".join(map(_pem, bundle)), CA_KEY: _key_pem(key), CERTIFICATE: _pem(leaf), KEY: _key_pem(serving)}
    return {name: base64.b64encode(value).decode() for name, value in content.items()}


@dataclass(frozen=True)
class _Authority:
    bundle: Sequence[x509.Certificate]
    key: ec.EllipticCurvePrivateKey


def _authority(data: Mapping[str, str] | None, now: datetime) -> _Authority | None:
    """The authority in a Secret; None if there is none that can issue anything, or if its time is nearly over."""
    bundle = _believed(data, now)
    if data is None or not bundle or _due(bundle[0]) <= now:
        return None
    try:
        key = serialization.load_pem_private_key(_decoded(data, CA_KEY), None)
    except (Unusable, ValueError, TypeError):
        return None
    matches = isinstance(key, ec.EllipticCurvePrivateKey) and key.public_key() == bundle[0].public_key()
    return _Authority(bundle, key) if matches and isinstance(key, ec.EllipticCurvePrivateKey) else None


def _believed(data: Mapping[str, str] | None, now: datetime) -> list[x509.Certificate]:
    try:
        found = _certificates(CA, _decoded(data or {}, CA))
    except Unusable:
        return []
    return [certificate for certificate in found if certificate.not_valid_after_utc > now]


def _is_good(data: Mapping[str, str], authority: x509.Certificate, hosts: Sequence[str], now: datetime) -> bool:
    try:
        leaf = _certificates(CERTIFICATE, _decoded(data, CERTIFICATE))[0]
        key = serialization.load_pem_private_key(_decoded(data, KEY), None)
        leaf.verify_directly_issued_by(authority)
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (Unusable, ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    return _due(leaf) > now and key.public_key() == leaf.public_key() and set(names) == set(map(_host, hosts))


def _issue(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None,
    now: datetime,
    hosts: Sequence[str],
) -> x509.Certificate:
    """A certificate of `key`, for these hosts; one of an authority, if nobody else issues it."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    parent, signer = (issuer[0].subject, issuer[1]) if issuer is not None else (subject, key)
    days = SERVING_DAYS if issuer is not None else AUTHORITY_DAYS
    builder = x509.CertificateBuilder(issuer_name=parent, subject_name=subject, public_key=key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - BACKDATED).not_valid_after(now + timedelta(days=days))
    builder = builder.add_extension(x509.BasicConstraints(ca=issuer is None, path_length=0 if issuer is None else None), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    if issuer is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName(map(_host, hosts)), critical=False)
    return builder.sign(signer, hashes.SHA256())


def _due(certificate: x509.Certificate) -> datetime:
    """When it is to be replaced."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return begin + (end - begin) * 2 / 3


def _certificates(name: str, pem: bytes) -> list[x509.Certificate]:
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError:
        found = []
    if not found:
        raise Unusable(f"{name} holds no certificate in PEM")
    return found


def _decoded(data: Mapping[str, str], name: str) -> bytes:
    try:
        value = base64.b64decode(data.get(name, ""), validate=True)
    except binascii.Error:
        raise Unusable(f"{name} is not base64") from None
    if not value:
        raise Unusable(f"{name} is not there, or empty")
    return value


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def context() -> ssl.SSLContext:
    """The TLS settings of the endpoint, without a certificate yet."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    return made


def show(tls: ssl.SSLContext, what: Shown) -> None:
    """Show this certificate to whoever connects from now on. Raises Unusable.

    The ssl module takes it from files only, so it passes through one that none but us can read.
    """
    with tempfile.NamedTemporaryFile() as file:
        file.write(what.certificate + b"\n" + what.key)
        file.flush()
        try:
            tls.load_cert_chain(file.name, password="")  # without one, OpenSSL would ask for it on the terminal
        except ssl.SSLError as error:
            raise Unusable(f"{CERTIFICATE} and {KEY} do not fit each other, or are not PEM: {error.reason}") from None
