"""When a certificate is replaced, and that whoever believed the old authority believes the new certificate too."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from dpuchain.admission.certificates import CA, CA_KEY, CERTIFICATE, KEY, Unusable, renewed, shown

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOSTS = ["dpuchain-admission.ns.svc", "192.0.2.1"]


def made() -> dict[str, str]:
    found = renewed(None, HOSTS, NOW)
    assert found is not None
    return found


def certificates(data: dict[str, str], name: str) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(base64.b64decode(data[name]))


def test_first_certificate_is_for_the_hosts_and_of_the_authority() -> None:
    data = made()
    (leaf,), (authority,) = certificates(data, CERTIFICATE), certificates(data, CA)
    leaf.verify_directly_issued_by(authority)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["dpuchain-admission.ns.svc"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.1"]


def test_certificate_stays_while_it_is_young() -> None:
    assert renewed(made(), HOSTS, NOW + timedelta(days=59)) is None


def test_certificate_is_renewed_by_the_same_authority_after_two_thirds_of_its_time() -> None:
    before = made()
    after = renewed(before, HOSTS, NOW + timedelta(days=61))
    assert after is not None
    assert after[CA] == before[CA]
    assert after[CERTIFICATE] != before[CERTIFICATE]
    certificates(after, CERTIFICATE)[0].verify_directly_issued_by(certificates(before, CA)[0])
    assert shown(after).due > NOW + timedelta(days=61)


def test_authority_is_renewed_and_the_old_one_believed_until_it_ends() -> None:
    before = made()
    after = renewed(before, HOSTS, NOW + timedelta(days=2500))
    assert after is not None
    new, old = certificates(after, CA)
    assert old == certificates(before, CA)[0]
    certificates(after, CERTIFICATE)[0].verify_directly_issued_by(new)
    later = renewed(after, HOSTS, NOW + timedelta(days=3700))
    assert later is not None
    assert certificates(later, CA) == [new]


@pytest.mark.parametrize(
    "change",
    [
        {CERTIFICATE: ""},
        {CERTIFICATE: "!"},
        {CERTIFICATE: base64.b64encode(b"text").decode()},
        {KEY: ""},
        {KEY: base64.b64encode(b"text").decode()},
        {KEY: made()[KEY]},
        {CERTIFICATE: made()[CERTIFICATE], KEY: made()[KEY]},
    ],
)
def test_what_cannot_be_shown_is_issued_anew(change: dict[str, str]) -> None:
    before = made()
    after = renewed({**before, **change}, HOSTS, NOW)
    assert after is not None
    assert after[CA] == before[CA]
    certificates(after, CERTIFICATE)[0].verify_directly_issued_by(certificates(before, CA)[0])
    assert renewed(after, HOSTS, NOW) is None


@pytest.mark.parametrize("change", [{CA: ""}, {CA_KEY: ""}, {CA_KEY: "!"}, {CA_KEY: made()[CA_KEY]}, {CA: "!"}])
def test_authority_that_cannot_issue_is_replaced(change: dict[str, str]) -> None:
    after = renewed({**made(), **change}, HOSTS, NOW)
    assert after is not None
    certificates(after, CERTIFICATE)[0].verify_directly_issued_by(certificates(after, CA)[0])
    assert renewed(after, HOSTS, NOW) is None


def test_other_hosts_need_another_certificate() -> None:
    data = made()
    assert renewed(data, ["other.ns.svc"], NOW) is not None
    assert renewed(data, list(reversed(HOSTS)), NOW) is None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "does not exist"),
        ({}, "tls.crt is not there"),
        ({CERTIFICATE: "!"}, "tls.crt is not base64"),
        ({CERTIFICATE: "dGV4dA==", KEY: "dGV4dA=="}, "tls.crt holds no certificate"),
    ],
)
def test_what_is_wrong_with_a_secret_is_told_without_quoting_it(data: dict[str, str] | None, words: str) -> None:
    with pytest.raises(Unusable, match=words) as caught:
        shown(data)
    assert "text" not in str(caught.value)
