"""Agents as they were at any point of the log: folded from the first event on, whatever the read models say now."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import datetime

from l02.bus.connection.bus import Bus
from l02.bus.jetstream.history import sequence_of, subject_of
from l02.bus.log.reader import last_sequence
from l02.bus.wire.codec import LogEntry, SetAside, UnreadableEvent
from l02.client.discovery import reaching
from l02.client.event_log import read_log
from l02.client.stored_events import sequence_at, stored_events
from l02.domain.errors import ErrorCode, Failure
from l02.projections.folds.agents import AGENT_FOLD, AgentView

_REPORT_EVENTS = 500

ProgressCallback = Callable[[int, int], None]


def _silent(done: int, total: int) -> None:
    pass


async def replay_agent(
    bus: Bus, agent_id: str, to: int | datetime, on_progress: ProgressCallback = _silent
) -> AgentView:
    """The agent after all events up to the stream sequence `to`, or up to those stored by the time `to`.

    `on_progress` is told which sequence of which is done. Raises Failure E2110 for a sequence that is not there yet or
    an id that cannot be, E2111 if there was no such agent, UnreadableEvent, NodeUnreachable.
    """
    with reaching():
        last = await _last_event(bus, to)
        views, aside = await _fold(read_log(bus, agent_id), last, on_progress)
    if aside:
        raise UnreadableEvent(f"{aside[0].reason}; `l02 verify` says what else is wrong")
    if agent_id not in views:
        raise Failure(
            ErrorCode.AGGREGATE_NOT_FOUND,
            f"there was no agent {agent_id!r} at event {last}; `l02 events {agent_id}` shows when it came to be",
        )
    return views[agent_id]


async def replay_agents(bus: Bus, to: int | datetime, on_progress: ProgressCallback = _silent) -> list[AgentView]:
    """All agents in the order of their ids, as of `to`; else as `replay_agent`. They are in memory at once.

    One that has something among its events that cannot be taken in is halted there (`AgentView.halted_at`).
    """
    with reaching():
        last = await _last_event(bus, to)
        views, _ = await _fold(_entries(bus, last), last, on_progress)
    return [views[agent_id] for agent_id in sorted(views)]


async def _last_event(bus: Bus, to: int | datetime) -> int:
    if isinstance(to, datetime):
        return await sequence_at(bus, to)
    newest = await last_sequence(bus)
    if to > newest:
        raise Failure(ErrorCode.COMMAND_INVALID, f"there is no event {to} yet; the newest is {newest}", "to")
    return to


async def _entries(bus: Bus, last: int) -> AsyncGenerator[LogEntry, None]:
    async with aclosing(stored_events(bus, last)) as messages:
        async for message in messages:
            yield bus.events.entry(message.data, sequence_of(message), subject_of(message))


async def _fold(
    entries: AsyncGenerator[LogEntry, None], last: int, on_progress: ProgressCallback
) -> tuple[dict[str, AgentView], list[SetAside]]:
    """The agents, and what could not be taken in."""
    views: dict[str, AgentView] = {}
    aside: list[SetAside] = []
    count = 0
    async with aclosing(entries):
        async for entry in entries:
            if entry.sequence > last:
                break
            _change(views, aside, entry)
            count += 1
            if count % _REPORT_EVENTS == 0:
                on_progress(entry.sequence, last)
    on_progress(last, last)
    return views, aside


def _change(views: dict[str, AgentView], aside: list[SetAside], entry: LogEntry) -> None:
    key = AGENT_FOLD.key_of(entry)
    if key is None:
        return
    (agent_id,) = key
    view, refused = AGENT_FOLD.after(views.get(agent_id), entry)
    if view is not None:
        views[agent_id] = view
    if isinstance(entry, SetAside):
        refused = entry
    if refused is not None:
        aside.append(refused)
