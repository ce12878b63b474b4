"""The words that the reference explains are those that the code uses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from dpuchain.api import names
from dpuchain.api.crds import DPU_KINDS, HOST_KINDS
from dpuchain.api.vocabulary import ANNOTATIONS, CONDITIONS, EVENTS, REASONS, EventReason

ROOT = Path(__file__).parents[3]
NAMES = (ROOT / "src/dpuchain/api/names.py").read_text()


def constants(heading: str) -> dict[str, str]:
    """The constants below a heading of `dpuchain.api.names`, with their values."""
    below = NAMES.split(f"# {heading}\n", 1)[1].split("\n\n", 1)[0]
    return {name: getattr(names, name) for name in re.findall(r"^([A-Z_]+) =", below, re.MULTILINE)}


def test_each_condition_type_is_explained_and_each_explained_one_is_used() -> None:
    explained = {name for held in CONDITIONS.values() for name in held}
    assert explained == set(constants("Condition types").values())
    assert CONDITIONS.keys() <= {definition.resource.kind for definition in (*HOST_KINDS, *DPU_KINDS)}


def test_each_reason_is_explained() -> None:
    assert REASONS.keys() == set(constants("Reasons").values())


def test_each_reason_of_events_is_explained() -> None:
    assert EVENTS.keys() == set(get_args(EventReason))


def test_each_word_is_used_by_the_code() -> None:
    sources = "\n".join(
        path.read_text() for path in (ROOT / "src/dpuchain").rglob("*.py") if path.name not in ("names.py", "vocabulary.py")
    )
    annotations = {name for name, value in vars(names).items() if isinstance(value, str) and value in ANNOTATIONS}
    words = {*constants("Condition types"), *constants("Reasons"), *annotations}
    unused = [name for name in words if not re.search(rf"\b{name}\b", sources)]
    assert not unused
    assert not [reason for reason in EVENTS if f'"{reason}"' not in sources]
