"""The agent that the decider tests are about, at each stage of its life, and the words to tell it with."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType

from l02.domain.agent import commands as c
from l02.domain.agent import events as e
from l02.domain.agent.checkpoint_events import CheckpointType
from l02.domain.agent.forks import Past, past_of
from l02.domain.agent.state import AgentState, RequestedTool
from l02.domain.aggregates import AGENT
from l02.domain.message import Event
from l02.domain.specification import AgentSpecification, LifecycleLimits, ResourceLimits
from tests.domain.given_when_then import Given

SPEC = AgentSpecification(name="historian", entrypoint="/agents/historian.py")
LIMITS = ResourceLimits()
USAGE = e.ResourceUsage(cpu_seconds=1.5, memory_peak_bytes=1024)
SEND_MAIL = RequestedTool(tool="send_mail", arguments={"to": "bob"})


def given(*past: Event) -> Given[AgentState]:
    return Given(AGENT, past)


def origin(command_id: str = "c1", node_id: str = "n1", past: Past | None = None) -> c.Origin:
    return c.Origin(agent_id="a1", command_id=command_id, node_id=node_id, actor="alice", past=past)


def past_after(*events: Event) -> Past:
    return past_of(given(*events).state, len(events), 10 * len(events))


def restarting_at_most(times: int, *delays: float) -> AgentSpecification:
    limits = LifecycleLimits(max_restart_count=times, restart_delay_seconds=delays)
    return AgentSpecification(name="historian", entrypoint="/agents/historian.py", lifecycle=limits)


def spawn_requested(
    incarnation: int = 1,
    *,
    spec: AgentSpecification = SPEC,
    requested_by: str = "alice",
    node_id: str = "n1",
    awaited_by: str | None = None,
) -> e.SpawnRequested:
    return e.SpawnRequested(
        spec=spec, requested_by=requested_by, node_id=node_id, incarnation=incarnation, awaited_by=awaited_by
    )


def spawned(incarnation: int = 1, *, completes: tuple[str, ...] = ()) -> e.AgentSpawned:
    return e.AgentSpawned(
        agent_id="a1",
        session_id="s1",
        node_id="n1",
        sandbox_type="landlock",
        trust_level="standard",
        resource_limits=LIMITS,
        source="cold",
        spawn_seconds=0.1,
        incarnation=incarnation,
        pid=4711,
        completes=completes,
    )


def report_spawned(incarnation: int = 1, session_id: str = "s1") -> c.ReportSpawned:
    return c.ReportSpawned(
        agent_id="a1",
        session_id=session_id,
        node_id="n1",
        sandbox_type="landlock",
        trust_level="standard",
        resource_limits=LIMITS,
        source="cold",
        spawn_seconds=0.1,
        incarnation=incarnation,
        pid=4711,
    )


def report_spawn_failed(incarnation: int = 1, *, permanent: bool = False) -> c.ReportSpawnFailed:
    return c.ReportSpawnFailed(incarnation=incarnation, code="E2021", message="not ready in time", permanent=permanent)


def report_exit(incarnation: int = 1) -> c.ReportExit:
    return c.ReportExit(incarnation=incarnation, cause="killed by signal 9", usage=USAGE)


def report_terminated() -> c.ReportTerminated:
    return c.ReportTerminated(usage=USAGE, duration_seconds=60.0)


def restarted(attempt: int = 1, delay_seconds: float = 1.0) -> e.AgentRestarted:
    return e.AgentRestarted(attempt=attempt, delay_seconds=delay_seconds, cause="killed by signal 9", usage=USAGE)


def resumed(incarnation: int = 2) -> e.AgentResumed:
    return e.AgentResumed(session_id="s1", node_id="n1", incarnation=incarnation)


def terminated(*, session_id: str | None = "s1", completes: tuple[str, ...] = ()) -> e.AgentTerminated:
    return e.AgentTerminated(
        session_id=session_id,
        reason="user_request",
        resource_usage=USAGE,
        duration_seconds=60.0,
        completes=completes,
    )


def started(execution_id: str = "x1", *, awaited_by: str | None = None) -> e.ExecutionStarted:
    return e.ExecutionStarted(execution_id=execution_id, input="how many commits?", awaited_by=awaited_by)


def request_tool(call: int = 1, execution_id: str = "x1") -> c.RequestTool:
    return c.RequestTool(node_id="n1", execution_id=execution_id, call=call, tool="send_mail", arguments={"to": "bob"})


def tool_requested(call: int = 1) -> e.ToolRequested:
    return e.ToolRequested(execution_id="x1", call=call, tool="send_mail", arguments={"to": "bob"})


def record_tool(call: int = 1, execution_id: str = "x1") -> c.RecordTool:
    return c.RecordTool(
        node_id="n1",
        execution_id=execution_id,
        call=call,
        tool="send_mail",
        arguments={"to": "bob"},
        ok=True,
        result="sent",
        attempts=1,
        duration_seconds=0.2,
    )


def tool_called(call: int = 1) -> e.ToolCalled:
    return e.ToolCalled(
        execution_id="x1",
        call=call,
        tool="send_mail",
        arguments={"to": "bob"},
        ok=True,
        result="sent",
        attempts=1,
        duration_seconds=0.2,
    )


def complete_execution(execution_id: str = "x1", state: e.StateChange | None = None) -> c.CompleteExecution:
    return c.CompleteExecution(
        node_id="n1",
        execution_id=execution_id,
        output="42",
        tokens=7,
        duration_seconds=3.0,
        calls=0,
        state=state or e.StateChange(),
    )


def completed(
    execution_id: str = "x1", *, state: e.StateChange | None = None, completes: tuple[str, ...] = ()
) -> e.ExecutionCompleted:
    return e.ExecutionCompleted(
        execution_id=execution_id,
        output="42",
        tokens=7,
        duration_seconds=3.0,
        calls=0,
        state=state or e.StateChange(),
        completes=completes,
    )


def execution_failed(
    code: str, message: str, *, execution_id: str = "x1", completes: tuple[str, ...] = ()
) -> e.ExecutionFailed:
    return e.ExecutionFailed(execution_id=execution_id, code=code, message=message, completes=completes)


def checkpoint_requested(
    checkpoint_id: str = "k1",
    checkpoint_type: CheckpointType = "manual",
    *,
    label: str | None = None,
    call: int | None = None,
    state: e.StateChange | UnsetType = UNSET,
    awaited_by: str | None = None,
) -> e.CheckpointRequested:
    return e.CheckpointRequested(
        checkpoint_id=checkpoint_id,
        checkpoint_type=checkpoint_type,
        node_id="n1",
        label=label,
        execution_id=None if call is None else "x1",
        call=call,
        state=state,
        awaited_by=awaited_by,
    )


def report_stored(checkpoint_id: str = "k1", revision: int = 0) -> c.ReportCheckpointStored:
    return c.ReportCheckpointStored(
        checkpoint_id=checkpoint_id,
        storage_location=f"postgres:a1/{checkpoint_id}",
        size_bytes=100,
        compressed_bytes=50,
        sha256="9f86d081",
        version=4,
        revision=revision,
        created_at=1000.0,
        duration_seconds=0.01,
    )


def checkpoint_created(
    checkpoint_id: str = "k1",
    revision: int = 0,
    *,
    checkpoint_type: CheckpointType = "manual",
    label: str | None = None,
    completes: tuple[str, ...] = (),
) -> e.CheckpointCreated:
    return e.CheckpointCreated(
        checkpoint_id=checkpoint_id,
        checkpoint_type=checkpoint_type,
        label=label,
        storage_location=f"postgres:a1/{checkpoint_id}",
        size_bytes=100,
        compressed_bytes=50,
        sha256="9f86d081",
        version=4,
        revision=revision,
        created_at=1000.0,
        duration_seconds=0.01,
        completes=completes,
    )


def stored(checkpoint_id: str = "k1", revision: int = 0, *, label: str | None = None) -> tuple[Event, ...]:
    return checkpoint_requested(checkpoint_id, label=label), checkpoint_created(checkpoint_id, revision, label=label)


def checkpoint_expired(checkpoint_id: str = "k1") -> e.CheckpointExpired:
    return e.CheckpointExpired(checkpoint_id=checkpoint_id, storage_location=f"postgres:a1/{checkpoint_id}")


def checkpoint_told(result: Any, call: int = 1, label: str | None = None) -> e.EffectRecorded:
    return e.EffectRecorded(execution_id="x1", call=call, kind="checkpoint", request={"label": label}, result=result)


def restore_requested(
    checkpoint_id: str = "k1", *, resume: bool = False, node_id: str = "n1", awaited_by: str | None = None
) -> e.RestoreRequested:
    return e.RestoreRequested(
        checkpoint_id=checkpoint_id,
        storage_location=f"postgres:a1/{checkpoint_id}",
        sha256="9f86d081",
        node_id=node_id,
        resume=resume,
        requested_by="alice",
        awaited_by=awaited_by,
    )


def checkpoint_restored(checkpoint_id: str = "k1", *, completes: tuple[str, ...] = ()) -> e.CheckpointRestored:
    return e.CheckpointRestored(
        checkpoint_id=checkpoint_id, restore_seconds=0.01, state={"seen": 5}, completes=completes
    )


def signalled(name: str = "approve", payload: Any = True) -> e.SignalReceived:
    return e.SignalReceived(name=name, payload=payload)


PENDING = (spawn_requested(),)
RUNNING = (*PENDING, spawned())
EXECUTING = (*RUNNING, started())
RESTARTING = (*RUNNING, restarted())
CHECKPOINTED = (*RUNNING, started(), completed(state=e.StateChange(set={"seen": 5})), *stored("k1", 2))
"""With a checkpoint that holds it as it is."""
MOVED_ON = (*CHECKPOINTED, signalled())
IDLE = (*CHECKPOINTED, e.AgentSuspended(session_id="s1", reason="idle", checkpoint_id="k1"))
HELD = (*EXECUTING, tool_requested(), e.ExecutionFailed(execution_id="x1", code="E2001", message="in doubt", held=True))
SUSPENDED = (*RUNNING, e.AgentSuspended(session_id="s1", reason="user_request"))
TERMINATING = (*RUNNING, e.TerminationRequested(reason="user_request", requested_by="alice"))
TERMINATED = (*TERMINATING, terminated())
FAILED = (*RUNNING, e.AgentFailed(code="E2025", message="gave up after 5 restarts"))
