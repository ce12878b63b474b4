"""Kubernetes' label selectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from dpuchain.api.meta import LabelSelector, LabelSelectorRequirement


def matches(selector: LabelSelector | None, labels: Mapping[str, str]) -> bool:
    """Whether `selector` picks an object with `labels`.

    None picks everything, as does an empty selector. NotIn and DoesNotExist pick objects that lack the key, as in Kubernetes. A
    requirement that `problem` objects to picks nothing.
    """
    if selector is None:
        return True
    exact = all(labels.get(key) == value for key, value in selector.match_labels.items())
    return exact and all(_holds(requirement, labels) for requirement in selector.match_expressions)


def _holds(requirement: LabelSelectorRequirement, labels: Mapping[str, str]) -> bool:
    if _problem_of(requirement) is not None:
        return False
    match requirement.operator:
        case "In":
            return labels.get(requirement.key) in requirement.values
        case "NotIn":
            return labels.get(requirement.key) not in requirement.values
        case "Exists":
            return requirement.key in labels
        case "DoesNotExist":
            return requirement.key not in labels


def problem(selector: LabelSelector | None, field: str) -> str | None:
    """What is wrong with `selector`, which stands in `field`; None if nothing is."""
    for position, requirement in enumerate(selector.match_expressions if selector else ()):
        found = _problem_of(requirement)
        if found:
            return f"{field}.matchExpressions[{position}]: {found}"
    return None


def _problem_of(requirement: LabelSelectorRequirement) -> str | None:
    if not requirement.key:
        return "key must not be empty"
    takes_values = requirement.operator in ("In", "NotIn")
    if takes_values and not requirement.values:
        return f"operator {requirement.operator} of key {requirement.key!r} needs at least one value"
    if not takes_values and requirement.values:
        return f"operator {requirement.operator} of key {requirement.key!r} takes no values; remove {list(requirement.values)}"
    return None


class Requirement(NamedTuple):
    """One thing that a selector asks for, in the form in which two that ask for the same are equal."""

    key: str
    operator: str
    values: frozenset[str]

    def __str__(self) -> str:
        if self.operator == "Exists":
            return self.key
        if self.operator == "DoesNotExist":
            return f"!{self.key}"
        listed = ",".join(sorted(self.values))
        if self.operator == "In":
            return f"{self.key}={listed}" if len(self.values) == 1 else f"{self.key} in ({listed})"
        return f"{self.key} notin ({listed})"


Requirements = frozenset[Requirement]
"""All that a selector asks for; nothing where it picks everything. Two selectors with equal ones pick the same objects."""


def requirements(selector: LabelSelector | None) -> Requirements:
    """What `selector` asks for."""
    if selector is None:
        return frozenset()
    exact = (Requirement(key, "In", frozenset([value])) for key, value in selector.match_labels.items())
    others = (Requirement(item.key, item.operator, frozenset(item.values)) for item in selector.match_expressions)
    return frozenset((*exact, *others))


def implies(narrow: Requirements, wide: Requirements) -> bool:
    """Whether whatever has `narrow` has `wide`, as can be seen from the two alone. False does not say that the contrary is the case."""
    return all(any(_suffices(have, need) for have in narrow) for need in wide)


def _suffices(have: Requirement, need: Requirement) -> bool:
    if have == need:
        return True
    if have.key != need.key:
        return False
    if have.operator == "In":
        return (
            (need.operator == "In" and have.values <= need.values)
            or (need.operator == "NotIn" and not have.values & need.values)
            or need.operator == "Exists"
        )
    return need.operator == "NotIn" and (have.operator == "DoesNotExist" or (have.operator == "NotIn" and need.values <= have.values))


def apart(one: Requirements, other: Requirements) -> bool:
    """Whether nothing has both, as can be seen from the two alone. False does not say that something has."""
    return any(_excludes(first, second) or _excludes(second, first) for first in one for second in other if first.key == second.key)


def _excludes(first: Requirement, second: Requirement) -> bool:
    if first.operator == "In":
        return (
            (second.operator == "In" and not first.values & second.values)
            or (second.operator == "NotIn" and first.values <= second.values)
            or second.operator == "DoesNotExist"
        )
    return first.operator == "Exists" and second.operator == "DoesNotExist"


def described(wanted: Requirements) -> str:
    """`wanted` as kubectl takes selectors; empty where nothing is asked for."""
    return ",".join(sorted(map(str, wanted)))
