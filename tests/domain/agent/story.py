"""The agent that the decider tests are about, at each stage of its life, and the words to tell it with."""

from __future__ import annotations

from typing import Any

from domain.agent import commands as c
from domain.agent import events as e
from domain.agent.state import AgentState
from domain.aggregates import AGENT
from domain.message import Event
from domain.specification import AgentSpecification, LifecycleLimits, ResourceLimits
from tests.domain.given_when_then import Given

SPEC = AgentSpecification(name="historian", entrypoint="/agents/historian.py")
LIMITS = ResourceLimits()
USAGE = e.ResourceUsage(cpu_seconds=1.5, memory_peak_bytes=1024)


def given(*past: Event) -> Given[AgentState]:
    return Given(AGENT, past)


def origin(command_id: str = "c1", node_id: str = "n1") -> c.Origin:
    return c.Origin(agent_id="a1", command_id=command_id, node_id=node_id, actor="alice")


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


def signalled(name: str = "approve", payload: Any = True) -> e.SignalReceived:
    return e.SignalReceived(name=name, payload=payload)


PENDING = (spawn_requested(),)
RUNNING = (*PENDING, spawned())
EXECUTING = (*RUNNING, started())
RESTARTING = (*RUNNING, restarted())
SUSPENDED = (*RUNNING, e.AgentSuspended(session_id="s1", reason="user_request"))
TERMINATING = (*RUNNING, e.TerminationRequested(reason="user_request", requested_by="alice"))
TERMINATED = (*TERMINATING, terminated())
FAILED = (*RUNNING, e.AgentFailed(code="E2025", message="gave up after 5 restarts"))
