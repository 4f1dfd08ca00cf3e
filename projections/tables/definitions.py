"""The table projections: which fold fills which table, and what stands in its columns beside the view itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import UNSET

from l02.domain.agent.state import Status
from l02.projections.folds.agents import AGENT_FOLD, AgentView
from l02.projections.folds.checkpoints import CHECKPOINT_FOLD, CheckpointView
from l02.projections.folds.executions import EXECUTION_FOLD, ExecutionView
from l02.projections.folds.fold import Fold, Key, View
from l02.projections.folds.nodes import NODE_FOLD, NodeView

__all__ = ["TABLES", "Row", "TableProjection", "sql"]

# More than any name of the runtime has, and less than what an index entry takes (2,704 bytes) in any script.
_MAX_COLUMN_CHARACTERS = 256
_MAX_INTEGER = 2**63 - 1
_FIRST_TIME = datetime(1, 1, 2, tzinfo=UTC)
_LAST_TIME = datetime(9999, 12, 31, tzinfo=UTC)

Row = tuple[Any, ...]
V = TypeVar("V", bound=View)


@cache
def sql(name: str) -> str:
    """The statement in `sql/<name>.sql`."""
    return (files("l02.projections.tables") / "sql" / f"{name}.sql").read_text()


@dataclass(frozen=True, slots=True)
class TableProjection(Generic[V]):
    """A table that is a fold of the event stream. `columns` makes the row, all but its last column, which is the view.

    What is searched stands in a column: PostgreSQL keeps any JSON, but looks into none that has a NUL in a text.
    Its statements are `sql/<name>.sql` (the table), `_load` (views by keys, one array per part of the key) and
    `_write` (rows, one array per column).
    """

    name: str
    fold: Fold[V]
    columns: Callable[[V], Row]

    def decode(self, view: str) -> V:
        """The view that a row holds."""
        return msgspec.json.decode(view, type=self.fold.view)

    def load_arguments(self, keys: Sequence[Key]) -> list[list[str]]:
        """Arguments of the `_load` statement."""
        return [list(part) for part in zip(*keys, strict=True)]

    def write_arguments(self, views: Sequence[V], encoded: Sequence[bytes]) -> list[list[Any]]:
        """Arguments of the `_write` statement."""
        columns = zip(*map(self.columns, views), strict=True)
        return [*map(list, columns), [view.decode() for view in encoded]]


def _text(value: str | None) -> str | None:
    """As much of a text as can stand in a column: PostgreSQL has no NUL, and an index entry has a limit."""
    return value if value is None else value[:_MAX_COLUMN_CHARACTERS].replace("\0", "\N{REPLACEMENT CHARACTER}")


def _time(value: datetime) -> datetime:
    """A time as it can stand in a column: the first and the last that there are mean without end there."""
    return max(_FIRST_TIME, min(value, _LAST_TIME))


def _whole(value: int) -> int:
    """As much of a number as can stand in a column of 64 bits."""
    return max(-_MAX_INTEGER, min(value, _MAX_INTEGER))


def _agent_columns(view: AgentView) -> Row:
    return (
        view.id,
        _text(view.name),
        view.state.value,
        _text(view.fleet_id),
        _text(view.node_id),
        _text(view.trust_level),
        _time(view.created_at),
        _time(view.updated_at),
        view.version,
        view.sequence,
        _nodes_needed(view),
        view.session is not None and view.session.is_open,
        view.session is not None and view.session.owed,
    )


def _nodes_needed(view: AgentView) -> str | None:
    """The nodes that have something to do for the agent, as JSON: the one it runs or is to end on, and who stores.

    None for one that has halted: nobody can do anything for it.
    """
    if view.halted_at is not UNSET:
        return None
    nodes = {*view.checkpoints_under_way.values()}
    has_process = view.state in (Status.PENDING, Status.RUNNING)
    if view.node_id is not None and (has_process or (view.state is Status.SUSPENDED and view.terminating)):
        nodes.add(view.node_id)
    return msgspec.json.encode(sorted(map(str, map(_text, nodes)))).decode() if nodes else None


def _execution_columns(view: ExecutionView) -> Row:
    return (
        view.agent_id,
        view.execution_id,
        view.state.value,
        _whole(view.tokens),
        view.duration_seconds,
        _time(view.started_at),
        None if view.ended_at is None else _time(view.ended_at),
        view.sequence,
    )


def _checkpoint_columns(view: CheckpointView) -> Row:
    return (
        view.agent_id,
        view.checkpoint_id,
        view.checkpoint_type,
        view.state.value,
        _text(view.label),
        None if view.size_bytes is None else _whole(view.size_bytes),
        _time(view.requested_at),
        None if view.created_at is None else _time(view.created_at),
        view.sequence,
    )


def _node_columns(view: NodeView) -> Row:
    return (view.node_id, view.state.value, _time(view.joined_at), _time(view.updated_at), view.sequence)


TABLES: dict[str, TableProjection[Any]] = {
    "agents": TableProjection("agents", AGENT_FOLD, _agent_columns),
    "executions": TableProjection("executions", EXECUTION_FOLD, _execution_columns),
    "checkpoints": TableProjection("checkpoints", CHECKPOINT_FOLD, _checkpoint_columns),
    "nodes": TableProjection("nodes", NODE_FOLD, _node_columns),
}
