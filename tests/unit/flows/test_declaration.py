"""A declaration that contradicts itself is refused before anything can be compiled against it."""

from __future__ import annotations

import pytest

from dpuchain.flows.declaration import BitField, DeclarationError, Layout, Pipeline, Table
from dpuchain.flows.pipeline import (
    COOKIE,
    LARGEST_PORT,
    LEARNED_KIND,
    METADATA,
    PIPELINE,
    ROUND,
    STATIC_KIND,
    cookie,
    is_ours,
    metadata,
    round_of,
)


def field(name: str, first: int, bits: int) -> BitField:
    return BitField(name, first, bits, "for a test")


def table(number: int, name: str, *edges: str, learns: tuple[str, ...] = (), **priorities: int) -> Table:
    return Table(number, name, "for a test", priorities, edges, learns)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ([field("a", 0, 8), field("b", 7, 4)], "r.b: bits 7..10 overlap"),
        ([field("a", 28, 8)], "r.a: bits 28..35 lie outside 0..31"),
        ([field("a", -1, 2)], "lie outside"),
        ([field("a", 3, 0)], "lie outside"),
        ([field("a", 0, 1), field("a", 1, 1)], "two fields have one name"),
    ],
)
def test_a_layout_with_wrong_bits_is_refused(fields: list[BitField], words: str) -> None:
    with pytest.raises(DeclarationError, match=words):
        Layout("r", 32, tuple(fields))


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ([table(0, "a"), table(0, "b")], "table number 0 is declared twice"),
        ([table(0, "a"), table(1, "a")], "table name a is declared twice"),
        ([table(254, "a")], "number 254 lies outside"),
        ([table(0, "a", "b")], "no table is called b"),
        ([table(0, "a", learns=("b",))], "no table is called b"),
        ([table(1, "a", "b"), table(0, "b")], "table a: the edge to b leads back"),
        ([table(0, "a", "a")], "leads back"),
        ([table(0, "a", high=5, low=5)], "priority 5 is declared twice"),
        ([table(0, "a", high=65536)], "priority high=65536 lies outside"),
    ],
)
def test_tables_that_do_not_fit_together_are_refused(tables: list[Table], words: str) -> None:
    with pytest.raises(DeclarationError, match=words):
        Pipeline(tuple(tables), ())


def test_what_is_not_declared_cannot_be_used() -> None:
    with pytest.raises(DeclarationError, match="table forward has no declared edge to classify"):
        PIPELINE.edge("forward", "classify")
    with pytest.raises(DeclarationError, match="table forward is not declared to learn into learned"):
        PIPELINE.learning("forward", "learned")
    with pytest.raises(DeclarationError, match="table classify has no priority flood; declared are probe, vlan, reserved, port"):
        PIPELINE.priority("classify", "flood")
    with pytest.raises(DeclarationError, match="no layout is called reg7"):
        PIPELINE.layout("reg7")
    with pytest.raises(DeclarationError, match="cookie has no field colour"):
        COOKIE["colour"]


def test_a_value_too_large_for_its_field_is_refused_and_not_cut() -> None:
    with pytest.raises(ValueError, match="port: 65536 does not fit into 16 bits"):
        cookie(STATIC_KIND, 1, 65536)
    with pytest.raises(ValueError, match="switch: 65536 does not fit"):
        metadata(1, 65536)


def test_the_cookie_tells_owner_kind_and_port() -> None:
    value = cookie(LEARNED_KIND, 0xABCDEF, LARGEST_PORT)
    assert f"{value:#x}" == "0xd9c120abcdeffeff"
    assert COOKIE["owner"].read(value) == 0xABCDEF
    assert METADATA["switch"].read(metadata(0xABCDEF, 7)) == 7


@pytest.mark.parametrize("foreign", [0, 1, 0xD9C1 << 48, 0xD9C1300000000000, 0xD9B1100000000000, 0xCBF29CE484222325, 2**64 - 1])
def test_foreign_cookies_are_not_ours(foreign: int) -> None:
    assert not is_ours(foreign)
    assert is_ours(cookie(STATIC_KIND, 1))
    assert is_ours(cookie(LEARNED_KIND, 1))


@pytest.mark.parametrize("number", [0, ROUND - 1, ROUND + 1, 15])
def test_cookies_of_other_rounds_are_ours_and_tell_their_round(number: int) -> None:
    other = cookie(STATIC_KIND, 7, 3) & ~COOKIE["round"].mask | COOKIE["round"].place(number)
    assert is_ours(other)
    assert round_of(other) == number != round_of(cookie(STATIC_KIND, 7, 3)) == ROUND
