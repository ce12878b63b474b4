"""Kubernetes' label selectors."""

from __future__ import annotations

from collections.abc import Mapping

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
