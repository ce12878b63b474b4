"""What a pipeline may be declared of, and the checks that a declaration must pass before anything is compiled against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


class DeclarationError(Exception):
    """The declaration of the pipeline contradicts itself, or lacks what was asked of it. Always a bug, found at import."""


@dataclass(frozen=True)
class BitField:
    """Bits `first` .. `first + bits - 1` of a layout, counted from the least significant one."""

    name: str
    first: int
    bits: int
    purpose: str

    @property
    def largest(self) -> int:
        """Largest value that fits."""
        return (1 << self.bits) - 1

    @property
    def mask(self) -> int:
        """The field's bits set, at their place in the layout."""
        return self.largest << self.first

    def place(self, value: int) -> int:
        """`value` moved to its place in the layout; ValueError if it does not fit."""
        if not 0 <= value <= self.largest:
            message = f"{self.name}: {value} does not fit into {self.bits} bits; the largest value is {self.largest}"
            raise ValueError(message)
        return value << self.first

    def read(self, whole: int) -> int:
        """Value of the field in a value of the layout."""
        return (whole & self.mask) >> self.first


@dataclass(frozen=True)
class Layout:
    """A value of `width` bits cut into fields: a register, the metadata or the cookie. `name` is the match field's name, or `cookie`."""

    name: str
    width: int
    fields: tuple[BitField, ...]

    def __post_init__(self) -> None:
        taken = 0
        for field in self.fields:
            if field.bits < 1 or field.first < 0 or field.first + field.bits > self.width:
                message = f"{self.name}.{field.name}: bits {field.first}..{field.first + field.bits - 1} lie outside 0..{self.width - 1}"
                raise DeclarationError(message)
            if taken & field.mask:
                message = f"{self.name}.{field.name}: bits {field.first}..{field.first + field.bits - 1} overlap another field's"
                raise DeclarationError(message)
            taken |= field.mask
        if len({field.name for field in self.fields}) != len(self.fields):
            message = f"{self.name}: two fields have one name"
            raise DeclarationError(message)

    def __getitem__(self, name: str) -> BitField:
        for field in self.fields:
            if field.name == name:
                return field
        message = f"{self.name} has no field {name}; declared are {', '.join(field.name for field in self.fields)}"
        raise DeclarationError(message)


@dataclass(frozen=True)
class Table:
    """One flow table. `edges` names the tables that its flows may continue in, `learns` those that they may put entries into."""

    number: int
    name: str
    purpose: str
    priorities: Mapping[str, int]
    edges: tuple[str, ...] = ()
    learns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pipeline:
    """Tables and layouts that fit together: names and numbers are unique, and every edge leads to a later table, so that no frame can go
    round.
    """

    tables: tuple[Table, ...]
    layouts: tuple[Layout, ...]

    def __post_init__(self) -> None:
        self._unique("table name", [table.name for table in self.tables])
        self._unique("table number", [table.number for table in self.tables])
        self._unique("layout", [layout.name for layout in self.layouts])
        for table in self.tables:
            self._check(table)

    @staticmethod
    def _unique(what: str, values: Sequence[object]) -> None:
        for value in values:
            if values.count(value) > 1:
                message = f"{what} {value} is declared twice"
                raise DeclarationError(message)

    def _check(self, table: Table) -> None:
        # 254 is the highest table of OpenFlow; Open vSwitch keeps it to itself.
        if not 0 <= table.number < 254:
            message = f"table {table.name}: number {table.number} lies outside 0..253"
            raise DeclarationError(message)
        self._unique(f"table {table.name}: priority", list(table.priorities.values()))
        for name, priority in table.priorities.items():
            if not 0 <= priority <= 0xFFFF:
                message = f"table {table.name}: priority {name}={priority} lies outside 0..65535"
                raise DeclarationError(message)
        for target in (*table.edges, *table.learns):
            if self.table(target).number <= table.number:
                message = f"table {table.name}: the edge to {target} leads back; a frame could go round"
                raise DeclarationError(message)

    def table(self, name: str) -> Table:
        """The table called `name`; DeclarationError if there is none."""
        for table in self.tables:
            if table.name == name:
                return table
        message = f"no table is called {name}; declared are {', '.join(table.name for table in self.tables)}"
        raise DeclarationError(message)

    def layout(self, name: str) -> Layout:
        """The layout called `name`; DeclarationError if there is none."""
        for layout in self.layouts:
            if layout.name == name:
                return layout
        message = f"no layout is called {name}; declared are {', '.join(layout.name for layout in self.layouts)}"
        raise DeclarationError(message)

    def edge(self, source: str, target: str) -> int:
        """Number of the table `target`; DeclarationError unless flows of `source` may continue there."""
        if target not in self.table(source).edges:
            message = f"table {source} has no declared edge to {target}"
            raise DeclarationError(message)
        return self.table(target).number

    def learning(self, source: str, target: str) -> int:
        """Number of the table `target`; DeclarationError unless flows of `source` may put entries there."""
        if target not in self.table(source).learns:
            message = f"table {source} is not declared to learn into {target}"
            raise DeclarationError(message)
        return self.table(target).number

    def priority(self, table: str, name: str) -> int:
        """Priority called `name` in `table`; DeclarationError if there is none."""
        priorities = self.table(table).priorities
        if name not in priorities:
            message = f"table {table} has no priority {name}; declared are {', '.join(priorities)}"
            raise DeclarationError(message)
        return priorities[name]
