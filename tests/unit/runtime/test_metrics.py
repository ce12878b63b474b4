"""The catalogue of what is measured, and how it is told."""

from __future__ import annotations

import re

from prometheus_client.parser import text_string_to_metric_families

from dpuchain.runtime import metrics
from dpuchain.runtime.metrics import CATALOGUE, REGISTRY, exposition

OF_THE_LIBRARY = "process_"


def families(text: bytes) -> dict[str, str]:
    return {family.name: family.type for family in text_string_to_metric_families(text.decode())}


def test_everything_that_is_registered_is_in_the_catalogue_and_the_other_way_round() -> None:
    kept = {measure.name.removesuffix("_total"): measure for measure in CATALOGUE if not measure.read}
    registered = {family.name: family for family in REGISTRY.collect() if not family.name.startswith(OF_THE_LIBRARY)}
    assert registered.keys() == kept.keys()
    for name, family in registered.items():
        assert (family.type, family.documentation) == (kept[name].kind, kept[name].help)


def test_names_have_their_units_and_labels_their_bounds() -> None:
    assert len({measure.name for measure in CATALOGUE}) == len(CATALOGUE)
    for measure in CATALOGUE:
        assert re.fullmatch("dpuchain_[a-z][a-z_]*[a-z]", measure.name)
        assert measure.name.endswith("_total") == (measure.kind == "counter")
        assert (measure.unit == "seconds") == measure.name.endswith("_seconds")
        assert (measure.unit == "bytes") == ("_bytes" in measure.name)
        assert measure.help.endswith(".")
        assert all(measure.labels.values()), f"{measure.name} has a label without a bound"
        assert measure.unit
        assert measure.processes


async def test_what_is_read_is_told_as_the_catalogue_says_and_nothing_of_it_is_kept() -> None:
    reads = [measure for measure in CATALOGUE if measure.read]

    async def read() -> metrics.Reading:
        return {measure: {tuple("x" for _ in measure.labels): 1.0} for measure in reads}

    found = families(await exposition(read))
    assert {measure.name.removesuffix("_total"): measure.kind for measure in reads}.items() <= found.items()
    assert not families(await exposition()).keys() & {measure.name.removesuffix("_total") for measure in reads}


def test_readings_of_one_metric_add_up() -> None:
    first, second = {metrics.OBJECTS: metrics.states("A", {"ready": 1})}, {metrics.OBJECTS: metrics.states("B", {})}
    assert metrics.reading(first, second)[metrics.OBJECTS] == {
        ("A", "ready"): 1,
        ("A", "unready"): 0,
        ("A", "deleting"): 0,
        ("B", "ready"): 0,
        ("B", "unready"): 0,
        ("B", "deleting"): 0,
    }
