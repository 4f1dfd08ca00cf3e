"""The tables of the read model.

Another projection is a file in `l02.projections.folds`, with the view and how events change it (a Fold), and an entry
here: its name, the fold, what the parts of the fold's key are called, the columns that are searched or sorted by, and
the indexes for that. Table, writing, loading, rebuilding, `l02 verify`, metrics, catalogue and the replay tests come
from the entry; so does the live view in the bucket, if the fold has one view for each aggregate of a `kind`. In the end
`python -m tests.golden.write` keeps its columns. The queries that people run are `sql/*.sql`; `ReadModel` asks them.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import msgspec
from msgspec import UNSET

from l02.domain.agent.state import AT_WORK, Status
from l02.domain.spending.money import in_millionths
from l02.projections.folds.agents import AGENT_FOLD, AgentView
from l02.projections.folds.budgets import BUDGET_FOLD, BudgetView
from l02.projections.folds.checkpoints import CHECKPOINT_FOLD
from l02.projections.folds.executions import EXECUTION_FOLD
from l02.projections.folds.nodes import NODE_FOLD
from l02.projections.folds.usage import USAGE_FOLD
from l02.projections.tables.table import Column, Table, fit_text


@cache
def sql(name: str) -> str:
    """The statement in `sql/<name>.sql`."""
    return (files("l02.projections.tables") / "sql" / f"{name}.sql").read_text()


def _nodes_needed(view: AgentView) -> str | None:
    """The nodes that have something to do for the agent, as JSON: the one it runs or is to end on, and who stores.

    None for one that has halted: nobody can do anything for it.
    """
    if view.halted_at is not UNSET:
        return None
    nodes = {*view.checkpoints_under_way.values()}
    if view.node_id is not None and (view.state in AT_WORK or (view.state is Status.SUSPENDED and view.terminating)):
        nodes.add(view.node_id)
    return msgspec.json.encode(sorted(map(fit_text, nodes))).decode() if nodes else None


def _holders(view: BudgetView) -> str | None:
    """The nodes to which something of the budget is lent, as JSON; none of one that has halted, whoever they are."""
    holders = {fit_text(lent.holder) for lent in view.slices.values()} if view.halted_at is UNSET else None
    return msgspec.json.encode(sorted(holders)).decode() if holders else None


def _budgets_awaited(view: AgentView) -> str | None:
    """The budgets that calls of the agent wait for, as JSON; None if there are none."""
    budgets = {wait.budget for wait in view.waiting if wait.budget is not None}
    return msgspec.json.encode(sorted(budgets)).decode() if budgets else None


def _by_name(*tables: Table[Any]) -> dict[str, Table[Any]]:
    return {table.name: table for table in tables}


TABLES: dict[str, Table[Any]] = _by_name(
    Table(
        "agents",
        AGENT_FOLD,
        key=("id",),
        columns=(
            Column("name", "text"),
            Column("state", "text"),
            Column("fleet_id", "text", optional=True),
            Column("node_id", "text", optional=True),
            Column("trust_level", "text"),
            Column("created_at", "timestamptz"),
            Column("updated_at", "timestamptz"),
            Column("version", "bigint"),
            Column("sequence", "bigint"),
            Column("nodes", "json", _nodes_needed, optional=True),
            # Open at the other side.
            Column("has_session", "boolean", lambda view: view.session is not None and view.session.is_open),
            # The other side has not heard of the newest checkpoint.
            Column("owes", "boolean", lambda view: view.session is not None and view.session.owed),
            # A person is asked about a call.
            Column("asks", "boolean", lambda view: any(wait.question for wait in view.waiting)),
            Column("budgets", "json", _budgets_awaited, optional=True),
        ),
        indexes={
            "agents_by_state": "(state, id)",
            "agents_by_fleet": "(fleet_id, id) WHERE fleet_id IS NOT NULL",
            "agents_with_nodes": "(id) WHERE nodes IS NOT NULL",
            "agents_by_node": "(node_id, state)",
            "agents_that_ask": "(id) WHERE asks",
            "agents_with_budgets": "(id) WHERE budgets IS NOT NULL",
        },
    ),
    Table(
        "executions",
        EXECUTION_FOLD,
        key=("agent_id", "execution_id"),
        columns=(
            Column("state", "text"),
            Column("tokens", "bigint"),
            Column("duration_seconds", "double precision", optional=True),
            Column("started_at", "timestamptz"),
            Column("ended_at", "timestamptz", optional=True),
            Column("sequence", "bigint"),
        ),
        indexes={
            "executions_by_start": "(agent_id, started_at, execution_id)",
            "executions_by_time": "(started_at, agent_id, execution_id)",
        },
    ),
    Table(
        "checkpoints",
        CHECKPOINT_FOLD,
        key=("agent_id", "checkpoint_id"),
        columns=(
            Column("checkpoint_type", "text"),
            Column("state", "text"),
            Column("label", "text", optional=True),
            Column("size_bytes", "bigint", optional=True),
            Column("requested_at", "timestamptz"),
            Column("created_at", "timestamptz", optional=True),
            Column("sequence", "bigint"),
        ),
        indexes={"checkpoints_by_request": "(agent_id, requested_at, checkpoint_id)"},
    ),
    Table(
        "nodes",
        NODE_FOLD,
        key=("id",),
        columns=(
            Column("state", "text"),
            Column("joined_at", "timestamptz"),
            Column("updated_at", "timestamptz"),
            Column("sequence", "bigint"),
        ),
    ),
    Table(
        "budgets",
        BUDGET_FOLD,
        key=("id",),
        columns=(
            Column("parent", "text", optional=True),
            Column("action", "text"),
            Column("holders", "json", _holders, optional=True),
            Column("created_at", "timestamptz"),
            Column("updated_at", "timestamptz"),
            Column("version", "bigint"),
            Column("sequence", "bigint"),
        ),
        indexes={"budgets_lent": "(id) WHERE holders IS NOT NULL"},
    ),
    Table(
        "usage",
        USAGE_FOLD,
        key=("agent_id", "budget", "model", "hour"),
        columns=(
            Column("hour_begins", "timestamptz", lambda view: view.hour),
            Column("input_tokens", "bigint"),
            Column("cached_tokens", "bigint"),
            Column("output_tokens", "bigint"),
            Column("reasoning_tokens", "bigint"),
            Column("cost_millionths", "bigint", lambda view: in_millionths(view.cost_usd)),
            Column("calls", "bigint"),
            Column("sequence", "bigint"),
        ),
        indexes={"usage_by_hour": "(hour_begins)"},
    ),
)
