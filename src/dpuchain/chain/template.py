"""The metadata that every object made from a template has: a set in a DPU cluster, or a set's child on a node."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from dpuchain.api.meta import ObjectMeta, TemplateMeta
from dpuchain.api.names import TEMPLATE_DIGEST_ANNOTATION

DIGITS = 10


def metadata_of(namespace: str, template: TemplateMeta, labels: Mapping[str, str], finalizer: str) -> ObjectMeta:
    """Metadata but for the name. `labels` say whose the object is; the template cannot override them, or the object would be lost.

    A digest of labels and annotations tells whether one that the template no longer has is still there: others' are left alone.
    """
    content = json.dumps([template.labels, template.annotations, labels], sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()[:DIGITS]
    return ObjectMeta(
        namespace=namespace,
        labels={**template.labels, **labels},
        annotations={**template.annotations, TEMPLATE_DIGEST_ANNOTATION: digest},
        finalizers=(finalizer,),
    )
