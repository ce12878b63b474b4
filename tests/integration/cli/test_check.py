"""What `check` knows of the certificate that admission has made for itself."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from dpuchain.admission.certificates import renewed
from dpuchain.api.kinds import NAMESPACE, SECRET
from dpuchain.api.kubernetes import Metadata, Secret
from dpuchain.api.meta import ObjectKey, ObjectMeta
from dpuchain.api.names import ADMISSION_CERTIFICATES_NAME, OPERATOR_NAMESPACE
from dpuchain.cli.check import admission_expiry
from dpuchain.kube.errors import AlreadyExists

if TYPE_CHECKING:
    from dpuchain.kube.client import Client


async def test_own_certificate_of_admission_is_known_by_its_end(client: Client) -> None:
    with suppress(AlreadyExists):
        await client.create(NAMESPACE, Metadata(metadata=ObjectMeta(name=OPERATOR_NAMESPACE)))
    assert await admission_expiry(client) == {}
    meta = ObjectMeta(name=ADMISSION_CERTIFICATES_NAME, namespace=OPERATOR_NAMESPACE)
    now = datetime.now(UTC)
    await client.create(SECRET, Secret(metadata=meta, type="kubernetes.io/tls", data=renewed(None, ["127.0.0.1"], now) or {}))
    try:
        (end,) = (await admission_expiry(client)).values()
        assert now + timedelta(days=14) < end
        await client.patch(SECRET, ObjectKey(OPERATOR_NAMESPACE, ADMISSION_CERTIFICATES_NAME), {"data": {"tls.crt": "bm8="}})
        assert await admission_expiry(client) == {}
    finally:
        await client.delete(SECRET, ObjectKey(OPERATOR_NAMESPACE, ADMISSION_CERTIFICATES_NAME))
