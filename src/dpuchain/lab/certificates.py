"""The certificates of one cluster: an authority of its own, server and client certificates, the key that signs service account tokens."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

VALIDITY = timedelta(days=365)


class Pair(NamedTuple):
    """Files of a certificate and its private key, in PEM."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority whose files lie in one directory; made new each time, since a lab's cluster does not outlive its data."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = _name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        builder = self._builder(self._name, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
        self.certificate = self._write("ca", builder, self._key).certificate

    def server(self, name: str, hosts: Sequence[str]) -> Pair:
        """Issue a server certificate for these DNS names and IP addresses."""
        alternatives = x509.SubjectAlternativeName([_host(host) for host in hosts])
        return self._issue(name, _name(name), ExtendedKeyUsageOID.SERVER_AUTH, alternatives)

    def client(self, user: str, groups: Sequence[str] = ()) -> Pair:
        """Issue a client certificate that Kubernetes takes for this user in these groups."""
        return self._issue(user.replace(":", "-"), _name(user, groups), ExtendedKeyUsageOID.CLIENT_AUTH, None)

    def service_account_key(self) -> Pair:
        """Make the key pair that signs and verifies service account tokens; `certificate` names the file of the public key."""
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        pair = Pair(self._directory / "service-accounts.pub", self._directory / "service-accounts.key")
        pair.certificate.write_bytes(public)
        self._write_key(pair.key, key)
        return pair

    def _issue(self, stem: str, subject: x509.Name, usage: x509.ObjectIdentifier, alternatives: x509.SubjectAlternativeName | None) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(subject, key.public_key())
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        if alternatives is not None:
            builder = builder.add_extension(alternatives, critical=False)
        return self._write(stem, builder, key)

    def _builder(self, subject: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        start = datetime.now(UTC) - timedelta(minutes=5)
        builder = x509.CertificateBuilder(issuer_name=self._name, subject_name=subject, public_key=public_key)
        return builder.serial_number(x509.random_serial_number()).not_valid_before(start).not_valid_after(start + VALIDITY)

    def _write(self, stem: str, builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> Pair:
        pair = Pair(self._directory / f"{stem}.crt", self._directory / f"{stem}.key")
        pair.certificate.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        self._write_key(pair.key, key)
        return pair

    @staticmethod
    def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
        path.touch(mode=0o600)
        encoding = serialization.PrivateFormat.PKCS8
        path.write_bytes(key.private_bytes(serialization.Encoding.PEM, encoding, serialization.NoEncryption()))


def _name(common: str, organizations: Sequence[str] = ()) -> x509.Name:
    groups = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in organizations]
    return x509.Name([*groups, x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
