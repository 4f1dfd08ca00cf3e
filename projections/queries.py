"""What the service and the command line ask the tables, and waiting until they hold what one has just done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from l02.bus.connection.bus import Bus
from l02.bus.connection.postgres import pool_of_primary
from l02.domain.agent.state import ENDED, Status
from l02.domain.spending.money import in_usd
from l02.projections.folds.agents import AGENT_FOLD, AgentView
from l02.projections.folds.budgets import BUDGET_FOLD, BudgetView
from l02.projections.folds.checkpoints import CHECKPOINT_FOLD, CheckpointState, CheckpointView
from l02.projections.folds.executions import EXECUTION_FOLD, ExecutionState, ExecutionView
from l02.projections.folds.nodes import NODE_FOLD, NodeView
from l02.projections.projector.progress import Progress, ProjectionHalted
from l02.projections.tables.database import SCHEMA, migrate
from l02.projections.tables.definitions import sql
from l02.projections.views.bucket import ViewBucket
from l02.projections.views.projector import VIEWS, stored_position

if TYPE_CHECKING:
    from asyncpg import Pool, Record

    PgPool = Pool[Record]

_POOL_SIZE = 4
_QUERY_SECONDS = 10.0
_POLL_SECONDS = 0.05


UsageBy = Literal["agent", "fleet", "budget", "model"]


class Usage(Struct, frozen=True, kw_only=True):
    """What models have used of or by `name`, which is empty for who has none. `cached_tokens` are part of
    `input_tokens`, `reasoning_tokens` of `output_tokens`.
    """

    name: str
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_usd: float
    calls: int


class ReadModel:
    """The tables, typed. Every query raises asyncpg's errors, OSError or TimeoutError if PostgreSQL is away."""

    def __init__(self, pool: PgPool, bus: Bus, progress: Progress) -> None:
        self._pool = pool
        self._bucket = ViewBucket(bus)
        self._progress = progress

    async def get_agent(self, agent_id: str) -> AgentView | None:
        """The agent, None if there is none."""
        view = await self._pool.fetchval("SELECT view FROM agents WHERE id = $1", agent_id)
        return None if view is None else AGENT_FOLD.decode(view)

    async def list_agents(
        self, *, state: Status | None = None, fleet: str | None = None, limit: int = 100, after: str | None = None
    ) -> list[AgentView]:
        """At most `limit` agents in the order of their ids; `after` is the last id of the page before."""
        rows = await self._pool.fetch(sql("agents_list"), state and state.value, fleet, after or "", limit)
        return [AGENT_FOLD.decode(row["view"]) for row in rows]

    async def list_executions(
        self,
        agent_id: str | None = None,
        *,
        state: ExecutionState | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> list[ExecutionView]:
        """At most `limit` executions of the agent, or of all, the latest first.

        `after` is the last one of the page before: its id, or `<agent_id>/<execution_id>` if they are of all agents.
        """
        owner, _, execution_id = (after or "").rpartition("/")
        rows = await self._pool.fetch(
            sql("executions_list"), agent_id, state, agent_id or owner, execution_id or None, limit
        )
        return [EXECUTION_FOLD.decode(row["view"]) for row in rows]

    async def list_checkpoints(
        self, agent_id: str, *, state: CheckpointState | None = None, limit: int = 100, after: str | None = None
    ) -> list[CheckpointView]:
        """At most `limit` checkpoints of the agent, the latest first; `after` is the last id of the page before."""
        rows = await self._pool.fetch(sql("checkpoints_list"), agent_id, state and state.value, after, limit)
        return [CHECKPOINT_FOLD.decode(row["view"]) for row in rows]

    async def agents_of_node(self, node_id: str, states: Collection[Status]) -> list[str]:
        """The ids of the agents that are in one of `states` on this node."""
        rows = await self._pool.fetch(
            "SELECT id FROM agents WHERE node_id = $1 AND state = ANY ($2::text[]) ORDER BY id",
            node_id,
            [state.value for state in states],
        )
        return [row["id"] for row in rows]

    async def open_sessions_of_node(self, node_id: str) -> list[str]:
        """The ids of the node's agents whose session is open and may have something to be told, or to be ended."""
        rows = await self._pool.fetch(
            "SELECT id FROM agents WHERE node_id = $1 AND has_session AND (state <> 'suspended' OR owes) ORDER BY id",
            node_id,
        )
        return [row["id"] for row in rows]

    async def count_agents(self, node_id: str) -> dict[tuple[str, str], int]:
        """How many agents of this node there are by trust level and state, but for those that are gone for good."""
        rows = await self._pool.fetch(
            "SELECT trust_level, state, count(*) AS agents FROM agents "
            "WHERE node_id = $1 AND state <> ALL ($2::text[]) GROUP BY trust_level, state",
            node_id,
            [state.value for state in ENDED],
        )
        return {(row["trust_level"], row["state"]): row["agents"] for row in rows}

    async def agents_missing(self, live: Collection[str]) -> list[tuple[str, str]]:
        """Agents that need a node which is not among `live`, each with that."""
        rows = await self._pool.fetch(sql("agents_missing"), list(live))
        return [(row["id"], row["node_id"]) for row in rows]

    async def agents_that_ask(self, *, limit: int = 100, after: str | None = None) -> list[AgentView]:
        """At most `limit` agents about whose calls a person is asked, in the order of their ids."""
        rows = await self._pool.fetch(
            "SELECT view FROM agents WHERE asks AND id > $1 ORDER BY id LIMIT $2", after or "", limit
        )
        return [AGENT_FOLD.decode(row["view"]) for row in rows]

    async def agents_waiting_for(self, budget_id: str) -> list[AgentView]:
        """The agents some of whose calls wait for this budget."""
        rows = await self._pool.fetch(
            "SELECT view FROM agents WHERE budgets IS NOT NULL AND budgets::jsonb ? $1 ORDER BY id", budget_id
        )
        return [AGENT_FOLD.decode(row["view"]) for row in rows]

    async def list_nodes(self) -> list[NodeView]:
        """All nodes that have ever joined, in the order of their ids."""
        rows = await self._pool.fetch("SELECT view FROM nodes ORDER BY id")
        return [NODE_FOLD.decode(row["view"]) for row in rows]

    async def get_budget(self, budget_id: str) -> BudgetView | None:
        """The budget, None if there is none."""
        view = await self._pool.fetchval("SELECT view FROM budgets WHERE id = $1", budget_id)
        return None if view is None else BUDGET_FOLD.decode(view)

    async def list_budgets(
        self, *, parent: str | None = None, limit: int = 100, after: str | None = None
    ) -> list[BudgetView]:
        """At most `limit` budgets in the order of their ids; `after` is the last id of the page before."""
        rows = await self._pool.fetch(sql("budgets_list"), parent, after or "", limit)
        return [BUDGET_FOLD.decode(row["view"]) for row in rows]

    async def budgets_missing(self, live: Collection[str]) -> list[BudgetView]:
        """Budgets of which something is lent to a node that is not among `live`."""
        rows = await self._pool.fetch(sql("budgets_missing"), list(live))
        return [BUDGET_FOLD.decode(row["view"]) for row in rows]

    async def usage(
        self,
        by: UsageBy,
        *,
        since: datetime | None = None,
        agent_id: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> list[Usage]:
        """What models have used since the hour that holds `since`, at most `limit` rows in the order of their names;
        `after` is the last name of the page before.
        """
        hour = None if since is None else since.replace(minute=0, second=0, microsecond=0)
        rows = await self._pool.fetch(sql("usage_get"), by, hour, agent_id, after, limit)
        return [
            Usage(
                name=row["name"],
                input_tokens=int(row["input_tokens"]),
                cached_tokens=int(row["cached_tokens"]),
                output_tokens=int(row["output_tokens"]),
                reasoning_tokens=int(row["reasoning_tokens"]),
                cost_usd=in_usd(int(row["cost_millionths"])),
                calls=int(row["calls"]),
            )
            for row in rows
        ]

    async def position(self, name: str) -> int:
        """The projection `name`, of a table or `views`, reflects all events up to this stream sequence at least."""
        if name == VIEWS:
            return (await stored_position(self._bucket))[0]
        position = await self._pool.fetchval("SELECT position FROM positions WHERE name = $1", name)
        if position is None:
            raise KeyError(name)
        return int(position)

    async def wait_for(self, name: str, sequence: int, timeout: float = 5.0) -> None:
        """Return when the projection `name` reflects the event with this stream sequence; TimeoutError if it is late,
        ProjectionHalted if it cannot get there.

        It may be any node's projector that gets there: that of this process is noticed at once, others are looked for
        every 50 ms.
        """
        try:
            async with asyncio.timeout(timeout):
                while True:
                    try:
                        async with asyncio.timeout(_POLL_SECONDS):
                            await self._progress.wait_for(name, sequence)
                        return
                    except (TimeoutError, ProjectionHalted) as error:
                        if await self.position(name) >= sequence:
                            return
                        if isinstance(error, ProjectionHalted):
                            raise
        except TimeoutError as error:
            raise TimeoutError(f"{name} has not reached event {sequence} in {timeout:g} s") from error


@asynccontextmanager
async def open_read_model(bus: Bus, postgres_url: str, progress: Progress | None = None) -> AsyncIterator[ReadModel]:
    """Make the schema if need be, and connect. Raises DatabaseUnreachable or SchemaMismatch.

    `progress` is that of this process's projectors, if it has any.
    """
    await migrate(postgres_url)
    async with pool_of_primary(
        postgres_url,
        size=_POOL_SIZE,
        command_timeout=_QUERY_SECONDS,
        server_settings={"search_path": SCHEMA, "application_name": "l02-queries"},
    ) as pool:
        yield ReadModel(pool, bus, progress or Progress())
