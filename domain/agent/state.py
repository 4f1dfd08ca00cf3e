"""What an agent is, folded from its events: `evolve` is the only way a state comes to be."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

from msgspec import UNSET, Struct
from msgspec.structs import replace

from domain.agent import events as e
from domain.message import Event
from domain.specification import AgentSpecification

__all__ = ["AgentState", "Execution", "JournalEntry", "PendingSignal", "Status", "evolve", "initial_state"]


class Status(StrEnum):
    """Where an agent is in its life. `new` is before its first event and never seen outside."""

    NEW = "new"
    PENDING = "pending"
    RUNNING = "running"
    SUSPENDED = "suspended"
    TERMINATED = "terminated"
    FAILED = "failed"


class JournalEntry(Struct, frozen=True, kw_only=True):
    """One recorded effect. Replayed to the agent, in the order of the journal, when the execution runs again."""

    call: int
    kind: str
    request: Any
    ok: bool
    result: Any


class Waiting(Struct, frozen=True, kw_only=True):
    """A sleep or a wait for a signal that has begun; `deadline` in seconds since 1970, None for ever."""

    kind: str
    request: Any
    deadline: float | None


class Execution(Struct, frozen=True, kw_only=True):
    """A piece of work under way or in the queue."""

    execution_id: str
    input: Any
    awaited_by: str | None = None
    journal: tuple[JournalEntry, ...] = ()
    waiting: dict[int, Waiting] = {}
    requested_tools: dict[int, str] = {}

    @property
    def has_run(self) -> bool:
        """Whether a process has got so far with it as to ask for an effect."""
        return bool(self.journal or self.waiting or self.requested_tools)


class PendingSignal(Struct, frozen=True, kw_only=True):
    """A signal that no execution has taken yet."""

    name: str
    payload: Any


class AgentState(Struct, frozen=True, kw_only=True):
    """All that decisions about an agent are made from."""

    status: Status = Status.NEW
    spec: AgentSpecification | None = None
    fleet_id: str | None = None
    node_id: str | None = None
    session_id: str | None = None
    incarnation: int = 0
    process_ready: bool = False
    restart_attempt: int = 0
    restart_pending: bool = False
    terminating: str | None = None
    spawn_awaited_by: str | None = None
    termination_awaited_by: str | None = None
    usage: e.ResourceUsage = e.ResourceUsage()
    executions: dict[str, Execution] = {}
    data: dict[str, Any] = {}
    signals: tuple[PendingSignal, ...] = ()

    @property
    def specification(self) -> AgentSpecification:
        """The specification of an agent that exists."""
        assert self.spec is not None, "only a new agent has no specification"
        return self.spec


def initial_state() -> AgentState:
    """An agent before its first event."""
    return AgentState()


def evolve(state: AgentState, event: Event) -> AgentState:
    """The state after `event`. Never fails on an event that `decide` made."""
    return _EVOLVE[type(event)](state, event)


def _spawn_requested(state: AgentState, event: e.SpawnRequested) -> AgentState:
    return replace(
        state,
        status=Status.PENDING,
        spec=event.spec,
        fleet_id=event.fleet_id,
        node_id=event.node_id,
        incarnation=event.incarnation,
        process_ready=False,
        restart_pending=False,
        spawn_awaited_by=event.awaited_by or state.spawn_awaited_by,
    )


def _spawned(state: AgentState, event: e.AgentSpawned) -> AgentState:
    return replace(
        state,
        status=Status.RUNNING,
        session_id=event.session_id,
        node_id=event.node_id,
        process_ready=True,
        spawn_awaited_by=None,
    )


def _spawn_failed(state: AgentState, event: e.SpawnFailed) -> AgentState:
    awaited_by = None if state.spawn_awaited_by in event.completes else state.spawn_awaited_by
    return replace(state, process_ready=False, spawn_awaited_by=awaited_by)


def _suspended(state: AgentState, event: e.AgentSuspended) -> AgentState:
    return replace(state, status=Status.SUSPENDED, process_ready=False, restart_pending=False)


def _resumed(state: AgentState, event: e.AgentResumed) -> AgentState:
    return replace(
        state,
        status=Status.PENDING,
        node_id=event.node_id,
        incarnation=event.incarnation,
        restart_attempt=0,
    )


def _restarted(state: AgentState, event: e.AgentRestarted) -> AgentState:
    return replace(
        state,
        status=Status.PENDING,
        process_ready=False,
        restart_attempt=event.attempt,
        restart_pending=True,
        usage=event.usage,
    )


def _failed(state: AgentState, event: e.AgentFailed) -> AgentState:
    return replace(
        state,
        status=Status.FAILED,
        process_ready=False,
        restart_pending=False,
        spawn_awaited_by=None,
        usage=event.usage,
        signals=(),
    )


def _termination_requested(state: AgentState, event: e.TerminationRequested) -> AgentState:
    return replace(state, terminating=event.reason, termination_awaited_by=event.awaited_by)


def _terminated(state: AgentState, event: e.AgentTerminated) -> AgentState:
    return replace(
        state,
        status=Status.TERMINATED,
        process_ready=False,
        restart_pending=False,
        spawn_awaited_by=None,
        termination_awaited_by=None,
        usage=event.resource_usage,
        signals=(),
    )


def _execution_started(state: AgentState, event: e.ExecutionStarted) -> AgentState:
    execution = Execution(execution_id=event.execution_id, input=event.input, awaited_by=event.awaited_by)
    return replace(state, executions={**state.executions, event.execution_id: execution})


def _with_execution(state: AgentState, execution: Execution) -> AgentState:
    return replace(state, executions={**state.executions, execution.execution_id: execution})


def _without_execution(state: AgentState, execution_id: str) -> dict[str, Execution]:
    return {key: value for key, value in state.executions.items() if key != execution_id}


def _tool_requested(state: AgentState, event: e.ToolRequested) -> AgentState:
    execution = state.executions[event.execution_id]
    return _with_execution(
        state,
        replace(execution, requested_tools={**execution.requested_tools, event.call: event.tool}),
    )


def _tool_called(state: AgentState, event: e.ToolCalled) -> AgentState:
    execution = state.executions[event.execution_id]
    entry = JournalEntry(
        call=event.call,
        kind="tool",
        request={"tool": event.tool, "arguments": event.arguments},
        ok=event.ok,
        result=event.result,
    )
    requested = {call: tool for call, tool in execution.requested_tools.items() if call != event.call}
    return _with_execution(state, replace(execution, journal=(*execution.journal, entry), requested_tools=requested))


def _effect_recorded(state: AgentState, event: e.EffectRecorded) -> AgentState:
    execution = state.executions[event.execution_id]
    if not event.done:
        waiting = Waiting(kind=event.kind, request=event.request, deadline=event.deadline)
        return _with_execution(state, replace(execution, waiting={**execution.waiting, event.call: waiting}))
    entry = JournalEntry(call=event.call, kind=event.kind, request=event.request, ok=True, result=event.result)
    still_waiting = {call: wait for call, wait in execution.waiting.items() if call != event.call}
    state = _with_execution(state, replace(execution, journal=(*execution.journal, entry), waiting=still_waiting))
    if event.kind == "signal" and event.result is not None:
        return replace(state, signals=_without_first_signal(state.signals, event.request["name"]))
    return state


def _without_first_signal(signals: tuple[PendingSignal, ...], name: str) -> tuple[PendingSignal, ...]:
    for index, signal in enumerate(signals):
        if signal.name == name:
            return signals[:index] + signals[index + 1 :]
    return signals


def _execution_completed(state: AgentState, event: e.ExecutionCompleted) -> AgentState:
    data = state.data
    if event.state is not UNSET:
        data = {key: value for key, value in data.items() if key not in event.state.delete}
        data.update(event.state.set)
    return replace(
        state,
        executions=_without_execution(state, event.execution_id),
        data=data,
        usage=_with_tokens(state.usage, event.tokens),
        restart_attempt=state.restart_attempt if state.restart_pending else 0,
    )


def _execution_failed(state: AgentState, event: e.ExecutionFailed) -> AgentState:
    return replace(
        state, executions=_without_execution(state, event.execution_id), usage=_with_tokens(state.usage, event.tokens)
    )


def _with_tokens(usage: e.ResourceUsage, tokens: int) -> e.ResourceUsage:
    return replace(usage, tokens_consumed=usage.tokens_consumed + tokens)


def _signal_received(state: AgentState, event: e.SignalReceived) -> AgentState:
    return replace(state, signals=(*state.signals, PendingSignal(name=event.name, payload=event.payload)))


_EVOLVE: dict[type[Event], Callable[[AgentState, Any], AgentState]] = {
    e.SpawnRequested: _spawn_requested,
    e.AgentSpawned: _spawned,
    e.SpawnFailed: _spawn_failed,
    e.AgentSuspended: _suspended,
    e.AgentResumed: _resumed,
    e.AgentRestarted: _restarted,
    e.AgentFailed: _failed,
    e.TerminationRequested: _termination_requested,
    e.AgentTerminated: _terminated,
    e.ExecutionStarted: _execution_started,
    e.ToolRequested: _tool_requested,
    e.ToolCalled: _tool_called,
    e.EffectRecorded: _effect_recorded,
    e.ExecutionCompleted: _execution_completed,
    e.ExecutionFailed: _execution_failed,
    e.SignalReceived: _signal_received,
}
