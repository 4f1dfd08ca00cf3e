"""The questions that the micro service answers, each as a request's fields in, JSON out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from l02.bus.commands.service import Query
from l02.bus.connection.bus import Bus
from l02.bus.log.history import read_log_entries
from l02.bus.wire.codec import SetAside, cloud_event
from l02.bus.wire.subjects import AggregateId, aggregate_filter, event_subject, events_filter
from l02.client.event_log import type_pattern
from l02.client.stored_events import MAX_SEQUENCE, start_of
from l02.domain.agent.state import NewestState, Status
from l02.domain.aggregates import AGGREGATES
from l02.domain.errors import ErrorCode, Failure
from l02.domain.identifiers import is_id, require_id
from l02.projections.folds.checkpoints import CheckpointState
from l02.projections.folds.executions import ExecutionState
from l02.projections.folds.waiting import questions_of
from l02.projections.projector.progress import ProjectionHalted
from l02.projections.queries import ReadModel, UsageBy

_EVENTS_A_TURN = 50
Sequence = Annotated[int, Meta(ge=0, le=MAX_SEQUENCE)]
Text = Annotated[str, Meta(pattern=r"^[^\x00]*$")]


class _Strict(Struct, frozen=True, forbid_unknown_fields=True):
    pass


class _Following(_Strict, frozen=True, kw_only=True):
    at_least: Sequence = 0


class _Page(_Strict, frozen=True, kw_only=True):
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    after: Text | None = None
    at_least: Sequence = 0


class GetAgent(_Following, frozen=True):
    """One agent, E2111 if there is none; as of the event with stream sequence `at_least`, or later."""

    id: Text


class ListAgents(_Page, frozen=True):
    """Agents in the order of their ids; `after` is the last id of the page before, `at_least` as in agent.get."""

    state: Status | None = None
    fleet: Text | None = None


class GetState(_Strict, frozen=True):
    """An agent's durable state, of one that has a process out of memory; E2111 if there is no such agent."""

    id: Text


class ListExecutions(_Page, frozen=True):
    """The executions of an agent, or of all, the latest first; those in a `state`, or any.

    `after` is the last one of the page before: its id, or `<agent_id>/<execution_id>` if they are of all agents.
    """

    id: Text | None = None
    state: ExecutionState | None = None


class ListCheckpoints(_Page, frozen=True):
    """An agent's checkpoints, the latest first; those that are stored, or in another `state` (null: in any)."""

    id: Text
    state: CheckpointState | None = CheckpointState.STORED


class ListQuestions(_Page, frozen=True):
    """What persons are asked, of the agents in the order of their ids; `after` is the last agent of the page before,
    `limit` counts agents, and `at_least` is as in agent.list.
    """


class GetUsage(_Page, frozen=True):
    """What models have used since an hour, or ever, `by` agent, fleet, budget or model, of one agent `id` or of all;
    `after` is the last name of the page before, `at_least` as in agent.list.
    """

    by: UsageBy = "agent"
    since: Annotated[datetime, Meta(tz=True)] | None = None
    id: Text | None = None


class ReadEvents(_Strict, frozen=True):
    """`after` is a stream sequence, `since` a time; the events of one aggregate, of one type or family of types
    (`agent.execution.*`), or all. What stands among them and is none for this version is in `unreadable`.
    """

    aggregate: str = "agent"
    id: str | None = None
    type: str | None = None
    after: Sequence = 0
    since: Annotated[datetime, Meta(tz=True)] | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class ListNodes(_Strict, frozen=True):
    """The nodes that have ever joined, each with its state."""


class GetBudget(_Following, frozen=True):
    """One budget, E2111 if there is none; `at_least` as in agent.get."""

    id: Text


class ListBudgets(_Page, frozen=True):
    """Budgets in the order of their ids, all or the parts of a `parent`; `after` and `at_least` as in agent.list."""

    parent: Text | None = None


QUERY_FIELDS: dict[str, type[Struct]] = {
    "agent.get": GetAgent,
    "agent.list": ListAgents,
    "agent.state": GetState,
    "agent.executions": ListExecutions,
    "agent.checkpoints": ListCheckpoints,
    "agent.questions": ListQuestions,
    "usage.get": GetUsage,
    "budget.get": GetBudget,
    "budget.list": ListBudgets,
    "node.list": ListNodes,
    "events.read": ReadEvents,
}


def query_table(
    bus: Bus,
    read_model: ReadModel,
    state_of: Callable[[str], Awaitable[NewestState | None]],
    newest: Callable[[], Awaitable[int]],
) -> dict[str, Query]:
    """The queries by their subject below `l02.api`.

    `state_of` gives an agent's newest state.
    `newest` gives the last event there is: who has just heard an outcome, from whichever node, reads no older state.
    """

    async def follow(at_least: int, table: str = "agents") -> None:
        try:
            await read_model.wait_for(table, max(at_least, await newest()))
        except TimeoutError as error:
            raise Failure(ErrorCode.HANDLER_FAILED, f"the read model is late, ask again: {error}") from error
        except ProjectionHalted as error:
            raise Failure(ErrorCode.HANDLER_FAILED, f"the read model has halted: {error}") from error

    async def get_agent(wanted: GetAgent) -> Any:
        await follow(wanted.at_least)
        view = await read_model.get_agent(wanted.id)
        if view is None:
            raise _no_agent(wanted.id)
        return view

    async def list_agents(wanted: ListAgents) -> Any:
        await follow(wanted.at_least)
        return await read_model.list_agents(
            state=wanted.state, fleet=wanted.fleet, limit=wanted.limit, after=wanted.after
        )

    async def get_state(wanted: GetState) -> Any:
        found = await state_of(wanted.id) if is_id(wanted.id) else None
        if found is None:
            raise _no_agent(wanted.id)
        return found

    async def list_executions(wanted: ListExecutions) -> Any:
        if wanted.id is not None:
            await get_agent(GetAgent(wanted.id, at_least=wanted.at_least))
        if wanted.id is None and wanted.after is not None and "/" not in wanted.after:
            raise Failure(ErrorCode.COMMAND_INVALID, "say also whose it is: `<agent_id>/<execution_id>`", "$.after")
        await follow(wanted.at_least, "executions")
        return await read_model.list_executions(wanted.id, state=wanted.state, limit=wanted.limit, after=wanted.after)

    async def list_checkpoints(wanted: ListCheckpoints) -> Any:
        await get_agent(GetAgent(wanted.id, at_least=wanted.at_least))
        await follow(wanted.at_least, "checkpoints")
        return await read_model.list_checkpoints(wanted.id, state=wanted.state, limit=wanted.limit, after=wanted.after)

    async def list_questions(wanted: ListQuestions) -> Any:
        await follow(wanted.at_least)
        agents = await read_model.agents_that_ask(limit=wanted.limit, after=wanted.after)
        return [question for agent in agents for question in questions_of(agent.id, agent.waiting)]

    async def get_usage(wanted: GetUsage) -> Any:
        await follow(wanted.at_least, "usage")
        since = None if wanted.since is None else start_of(wanted.since, "$.since")
        return await read_model.usage(
            wanted.by, since=since, agent_id=wanted.id, limit=wanted.limit, after=wanted.after
        )

    async def get_budget(wanted: GetBudget) -> Any:
        await follow(wanted.at_least, "budgets")
        view = await read_model.get_budget(wanted.id)
        if view is None:
            raise Failure(
                ErrorCode.AGGREGATE_NOT_FOUND,
                f"there is no budget {wanted.id!r}; `l02 budget list` lists those that are",
            )
        return view

    async def list_budgets(wanted: ListBudgets) -> Any:
        await follow(wanted.at_least, "budgets")
        return await read_model.list_budgets(parent=wanted.parent, limit=wanted.limit, after=wanted.after)

    async def list_nodes(_: ListNodes) -> Any:
        await follow(0, "nodes")
        return await read_model.list_nodes()

    async def read_events(wanted: ReadEvents) -> Any:
        since = start_of(wanted.since, "$.since") if wanted.since is not None else None
        entries, more = await read_log_entries(
            bus, _filter(wanted), after=wanted.after, since=since, limit=wanted.limit
        )
        unreadable: list[SetAside] = []
        events: list[msgspec.Raw] = []
        room = bus.client.max_payload // 2
        for number, entry in enumerate(entries):
            if number % _EVENTS_A_TURN == 0:
                await asyncio.sleep(0)  # others are served meanwhile
            raw = msgspec.json.encode(
                entry if isinstance(entry, SetAside) else cloud_event(entry) | {"sequence": entry.sequence}
            )
            room -= len(raw)
            if room < 0 and (events or unreadable):  # what does not fit is for the next page
                more = True
                break
            if isinstance(entry, SetAside):
                unreadable.append(entry)
            else:
                events.append(msgspec.Raw(raw))
        return {"events": events, "more": more} | ({"unreadable": unreadable} if unreadable else {})

    answers: dict[str, Callable[[Any], Awaitable[Any]]] = {
        "agent.get": get_agent,
        "agent.list": list_agents,
        "agent.state": get_state,
        "agent.executions": list_executions,
        "agent.checkpoints": list_checkpoints,
        "agent.questions": list_questions,
        "usage.get": get_usage,
        "budget.get": get_budget,
        "budget.list": list_budgets,
        "node.list": list_nodes,
        "events.read": read_events,
    }

    def query(name: str) -> Query:
        return lambda fields: answers[name](msgspec.convert(fields, QUERY_FIELDS[name]))

    return {name: query(name) for name in answers}


def _no_agent(agent_id: str) -> Failure:
    return Failure(ErrorCode.AGGREGATE_NOT_FOUND, f"there is no agent {agent_id!r}; `l02 ps` lists those that are")


def _filter(wanted: ReadEvents) -> str:
    if wanted.aggregate not in AGGREGATES:
        raise Failure(ErrorCode.COMMAND_INVALID, f"there are: {', '.join(sorted(AGGREGATES))}", "$.aggregate")
    pattern = type_pattern(wanted.type, "$.type") if wanted.type is not None else None
    if wanted.id is None:
        return events_filter(wanted.aggregate if pattern is None else None, pattern)
    aggregate = AggregateId(wanted.aggregate, require_id(wanted.id, "$.id"))
    return aggregate_filter(aggregate) if pattern is None else event_subject(aggregate, pattern)
