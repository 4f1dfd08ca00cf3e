"""A table of the read model, said once: the fold that fills it and its columns. Its statements come from that."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from operator import attrgetter
from typing import Any, Generic, Literal, TypeVar

from l02.projections.folds.fold import Fold, Key, View

# More than any name of the runtime has, and less than what an index entry takes (2,704 bytes) in any script.
_MAX_COLUMN_CHARACTERS = 256
_MAX_INTEGER = 2**63 - 1
_FIRST_TIME = datetime(1, 1, 2, tzinfo=UTC)
_LAST_TIME = datetime(9999, 12, 31, tzinfo=UTC)

V = TypeVar("V", bound=View)
Row = tuple[Key, V, bytes]
SqlType = Literal["text", "timestamptz", "bigint", "double precision", "boolean", "json"]


def fit_text(value: str) -> str:
    """As much of a text as can stand in a column: PostgreSQL has no NUL, and an index entry has a limit."""
    return value[:_MAX_COLUMN_CHARACTERS].replace("\0", "\N{REPLACEMENT CHARACTER}")


def _fit_time(value: datetime) -> datetime:
    """A time as it can stand in a column: the first and the last that there are mean without end there."""
    return max(_FIRST_TIME, min(value, _LAST_TIME))


def _fit_whole(value: int) -> int:
    """As much of a number as can stand in a column of 64 bits."""
    return max(-_MAX_INTEGER, min(value, _MAX_INTEGER))


_FITTING: dict[SqlType, Callable[[Any], Any]] = {"text": fit_text, "timestamptz": _fit_time, "bigint": _fit_whole}


@dataclass(frozen=True)
class Column(Generic[V]):
    """What is searched or sorted by. `value` takes it from the view, by default from its field of this name.

    It is None for NULL, if the column is `optional`. What PostgreSQL cannot hold is cut to what it can.
    """

    name: str
    type: SqlType
    value: Callable[[V], Any] | None = None
    optional: bool = False

    def values(self, views: Iterable[V]) -> list[Any]:
        """What stands in this column for each of the views."""
        found = map(self.value or attrgetter(self.name), views)
        fit = _FITTING.get(self.type)
        return [*found] if fit is None else [None if value is None else fit(value) for value in found]


@dataclass(frozen=True)
class Table(Generic[V]):
    """A table that is a fold of the event stream: `key` names the parts of the fold's key, the last column is the view.

    What is searched stands in a column: PostgreSQL keeps any JSON, but looks into none that has a NUL in a text.
    `indexes` are of the form {"agents_by_state": "(state, id)"}.
    """

    name: str
    fold: Fold[V]
    key: tuple[str, ...]
    columns: tuple[Column[V], ...]
    indexes: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def create(self) -> str:
        """The statement that makes the table, if it is not there. A change needs another SCHEMA_VERSION."""
        lines = [
            *(f'{name} text COLLATE "C"' for name in self.key),
            *(f"{column.name} {column.type}{'' if column.optional else ' NOT NULL'}" for column in self.columns),
            "view json NOT NULL",
            f"PRIMARY KEY ({', '.join(self.key)})",
        ]
        # Half of a page is left free, so that a row that changes stays on its page and in its index entries.
        return f"CREATE TABLE IF NOT EXISTS {self.name} (\n    " + ",\n    ".join(lines) + "\n) WITH (fillfactor = 50)"

    @property
    def create_indexes(self) -> list[str]:
        """The statements that make those that are not there."""
        return [f"CREATE INDEX IF NOT EXISTS {name} ON {self.name} {what}" for name, what in self.indexes.items()]

    @cached_property
    def load(self) -> str:
        """The statement that gives the views of some keys, each after its key; one array for each part of the key."""
        arrays = ", ".join(f"${number}::text[]" for number, _ in enumerate(self.key, 1))
        keys = ", ".join(self.key)
        return f"SELECT {keys}, view FROM {self.name} INNER JOIN unnest({arrays}) AS wanted ({keys}) USING ({keys})"  # noqa: S608, names of our own

    @cached_property
    def upsert(self) -> str:
        """The statement that writes rows, whether they are there or not; one array for each column."""
        types = {
            **dict.fromkeys(self.key, "text"),
            **{column.name: column.type for column in self.columns},
            "view": "json",
        }
        arrays = ", ".join(f"${number}::{type}[]" for number, type in enumerate(types.values(), 1))
        changes = ", ".join(f"{name} = excluded.{name}" for name in types if name not in self.key)
        return (
            f"INSERT INTO {self.name} ({', '.join(types)}) SELECT * FROM unnest({arrays}) "  # noqa: S608, names of our own
            f"ON CONFLICT ({', '.join(self.key)}) DO UPDATE SET {changes}"
        )

    def load_arguments(self, keys: Sequence[Key]) -> list[list[str]]:
        """Arguments of `load`."""
        return [list(part) for part in zip(*keys, strict=True)]

    def upsert_arguments(self, rows: Sequence[Row[V]]) -> list[list[Any]]:
        """Arguments of `upsert`, from keys and views with what encodes them."""
        keys, views, encoded = zip(*rows, strict=True)
        columns = [column.values(views) for column in self.columns]
        return [*self.load_arguments(keys), *columns, [view.decode() for view in encoded]]

    def columns_of(self, view: V) -> dict[str, Any]:
        """What stands in a row beside its key and the view itself."""
        return {column.name: column.values((view,))[0] for column in self.columns}
