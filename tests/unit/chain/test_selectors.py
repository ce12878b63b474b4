"""What a label selector picks, and what is said of one that cannot hold."""

from __future__ import annotations

import pytest

from dpuchain.api.meta import LabelSelector, LabelSelectorRequirement
from dpuchain.chain.selectors import apart, matches, problem, requirements


def selector(operator: str, *values: str, key: str = "zone") -> LabelSelector:
    return LabelSelector(match_expressions=(LabelSelectorRequirement(key=key, operator=operator, values=values),))  # type: ignore[arg-type]


def test_no_selector_and_an_empty_one_pick_everything() -> None:
    assert matches(None, {})
    assert matches(LabelSelector(), {"a": "b"})


@pytest.mark.parametrize(
    ("operator", "values", "there", "other", "absent"),
    [
        ("In", ("east", "west"), True, False, False),
        ("NotIn", ("east", "west"), False, True, True),
        ("Exists", (), True, True, False),
        ("DoesNotExist", (), False, False, True),
    ],
)
def test_operators(operator: str, values: tuple[str, ...], there: bool, other: bool, absent: bool) -> None:
    chosen = selector(operator, *values)
    assert [matches(chosen, labels) for labels in ({"zone": "east"}, {"zone": "north"}, {"rack": "east"})] == [there, other, absent]


def test_labels_and_expressions_must_all_hold() -> None:
    chosen = LabelSelector(match_labels={"a": "1", "b": "2"}, match_expressions=selector("Exists").match_expressions)
    assert matches(chosen, {"a": "1", "b": "2", "zone": ""})
    assert not matches(chosen, {"a": "1", "b": "2"})
    assert not matches(chosen, {"a": "1", "zone": ""})


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (selector("Exists", key=""), "key must not be empty"),
        (selector("In"), "operator In of key 'zone' needs at least one value"),
        (selector("NotIn"), "operator NotIn of key 'zone' needs at least one value"),
        (selector("Exists", "east"), "operator Exists of key 'zone' takes no values; remove ['east']"),
        (selector("DoesNotExist", "a", "b"), "operator DoesNotExist of key 'zone' takes no values; remove ['a', 'b']"),
    ],
)
def test_a_selector_that_cannot_hold_says_why_and_picks_nothing(wrong: LabelSelector, text: str) -> None:
    assert problem(wrong, "spec.nodeSelector") == f"spec.nodeSelector.matchExpressions[0]: {text}"
    assert not any(matches(wrong, labels) for labels in ({}, {"zone": "east"}, {"": ""}))


def test_nothing_is_wrong_with_a_good_one() -> None:
    assert problem(None, "spec.nodeSelector") is None
    assert problem(LabelSelector(match_labels={"a": "b"}), "spec.nodeSelector") is None
    assert problem(selector("In", "east"), "spec.nodeSelector") is None


@pytest.mark.parametrize(
    ("one", "other", "excluded"),
    [
        (selector("In", "a"), selector("In", "b"), True),
        (selector("In", "a", "b"), selector("In", "b", "c"), False),
        (selector("In", "a"), selector("NotIn", "a", "b"), True),
        (selector("In", "a", "c"), selector("NotIn", "a", "b"), False),
        (selector("In", "a"), selector("DoesNotExist"), True),
        (selector("Exists"), selector("DoesNotExist"), True),
        (selector("Exists"), selector("NotIn", "a"), False),
        (selector("NotIn", "a"), selector("DoesNotExist"), False),
        (selector("In", "a"), selector("In", "b", key="rack"), False),
        (selector("In", "a"), None, False),
    ],
)
def test_selectors_that_exclude_one_another(one: LabelSelector, other: LabelSelector | None, *, excluded: bool) -> None:
    first, second = requirements(one), requirements(other)
    assert (apart(first, second), apart(second, first)) == (excluded, excluded)
