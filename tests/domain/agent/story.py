"""The agent that the decider tests are about, at each stage of its life, and the words to tell it with."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from l02.domain.agent.execution import RequestedTool
from l02.domain.agent.life.restarts import AgentFailed, AgentRestarted, ReportExit, ReportSpawnFailed
from l02.domain.agent.life.spawning import AgentSpawned, SpawnRequested
from l02.domain.agent.life.suspension import AgentResumed, AgentSuspended
from l02.domain.agent.life.termination import AgentTerminated, TerminationRequested
from l02.domain.agent.saved.checkpoints import (
    CheckpointCreated,
    CheckpointExpired,
    CheckpointFailed,
    CheckpointRequested,
)
from l02.domain.agent.saved.forks import Past, past_of
from l02.domain.agent.saved.restoring import CheckpointRestored, RestoreRequested
from l02.domain.agent.state import AgentState, CheckpointType, ResourceUsage, StateChange
from l02.domain.agent.work.blocking import BudgetWaiting
from l02.domain.agent.work.effects import EffectRecorded, RecordedStep, StepsRecorded, ToolCalled, ToolRequested
from l02.domain.agent.work.executions import ExecutionCompleted, ExecutionFailed, ExecutionStarted
from l02.domain.agent.work.models import ModelCalled, ModelRequested
from l02.domain.agent.work.quotas import QuotaUpdated
from l02.domain.agent.work.signals import SignalReceived
from l02.domain.aggregates import AGENT
from l02.domain.inference import Drawn, FinishReason, Spending
from l02.domain.kernel.message import Event
from l02.domain.specification import AgentSpecification, LifecycleLimits, ResourceLimits
from l02.domain.spending.amounts import Amount
from l02.domain.spending.limits import LimitAction, LimitName
from tests.domain.given_when_then import Given

SPEC = AgentSpecification(name="historian", entrypoint="/agents/historian.py")
LIMITS = ResourceLimits()
USAGE = ResourceUsage(cpu_seconds=1.5, memory_peak_bytes=1024)
RESERVED = Spending(tokens=5_000, cost=12_500)
RESETS = {
    LimitName.TOKENS_PER_HOUR: 4_600.0,
    LimitName.TOKENS_PER_DAY: 87_400.0,
    LimitName.COST_PER_DAY: 87_400.0,
}
"""When the windows are over that begin with what happens now."""
USED: dict[LimitName, float] = {
    LimitName.TOKENS_PER_HOUR: 1_280,
    LimitName.TOKENS_PER_DAY: 1_280,
    LimitName.COST_PER_DAY: 0.000228,
}
"""What LIMITED has used."""
MORE = {**USED, LimitName.TOKENS_PER_HOUR: 6_280, LimitName.TOKENS_PER_DAY: 6_280}
"""What MORE_USED has."""
DRAWN = (Drawn(budget="team-a", slice="n1-7"),)
SEND_MAIL = RequestedTool(tool="send_mail", arguments={"to": "bob"})


def given(*past: Event) -> Given[AgentState]:
    return Given(AGENT, past)


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
) -> SpawnRequested:
    return SpawnRequested(
        spec=spec, requested_by=requested_by, node_id=node_id, incarnation=incarnation, awaited_by=awaited_by
    )


def spawned(incarnation: int = 1, *, session_id: str = "s1", completes: tuple[str, ...] = ()) -> AgentSpawned:
    return AgentSpawned(
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
        completes=completes,
    )


def report_spawn_failed(incarnation: int = 1, *, permanent: bool = False) -> ReportSpawnFailed:
    return ReportSpawnFailed(incarnation=incarnation, code="E2021", message="not ready in time", permanent=permanent)


def report_exit(incarnation: int = 1) -> ReportExit:
    return ReportExit(incarnation=incarnation, cause="killed by signal 9", usage=USAGE)


def restarted(attempt: int = 1, delay_seconds: float = 1.0) -> AgentRestarted:
    return AgentRestarted(attempt=attempt, delay_seconds=delay_seconds, cause="killed by signal 9", usage=USAGE)


def resumed(incarnation: int = 2) -> AgentResumed:
    return AgentResumed(session_id="s1", node_id="n1", incarnation=incarnation)


def terminated(*, session_id: str | None = "s1", completes: tuple[str, ...] = ()) -> AgentTerminated:
    return AgentTerminated(
        session_id=session_id,
        reason="user_request",
        resource_usage=USAGE,
        duration_seconds=60.0,
        completes=completes,
    )


def started(execution_id: str = "x1", *, awaited_by: str | None = None) -> ExecutionStarted:
    return ExecutionStarted(execution_id=execution_id, input="how many commits?", awaited_by=awaited_by)


def tool_requested(call: int = 1, execution_id: str = "x1") -> ToolRequested:
    return ToolRequested(execution_id=execution_id, call=call, tool="send_mail", arguments={"to": "bob"})


def tool_called(call: int = 1, execution_id: str = "x1") -> ToolCalled:
    return ToolCalled(
        execution_id=execution_id,
        call=call,
        tool="send_mail",
        arguments={"to": "bob"},
        ok=True,
        result="sent",
        attempts=1,
        duration_seconds=0.2,
    )


def model_requested(call: int = 1, attempt: int = 1) -> ModelRequested:
    return ModelRequested(
        execution_id="x1",
        call=call,
        attempt=attempt,
        alias="small",
        sha256="5ab1",
        request={"previous": None, "keep": 0, "messages": [{"role": "user", "content": "how many?"}]},
        reserved=Amount.of(RESERVED),
        drawn=DRAWN,
        budgets=("team-a",),
    )


def begun(request: ModelRequested) -> ModelRequested:
    """The same, where the windows of the agent's limits begin with it."""
    return replace(request, reset_at=RESETS)


def budget_waiting(
    call: int = 2, *, action: LimitAction = LimitAction.SUSPEND, budget: str | None = None
) -> BudgetWaiting:
    return BudgetWaiting(
        execution_id="x1",
        call=call,
        budget=budget,
        level="own" if budget is None else "budget",
        limit=LimitName.TOKENS_PER_HOUR,
        needed=Amount.of(RESERVED),
        action=action,
        reset_at=4_600.0,
    )


def for_budget(checkpoint_id: str = "c1") -> tuple[Event, Event]:
    """It is suspended for a budget."""
    suspended = AgentSuspended(session_id="s1", reason="budget", checkpoint_id=checkpoint_id)
    return checkpoint_requested(checkpoint_id, "pre_suspend"), suspended


def updated(used: dict[LimitName, float] = USED, **limits: Any) -> QuotaUpdated:
    """Alice changes the limits that LIMITED has."""
    changed = replace(ResourceLimits(tokens_per_hour=8_000), **limits)
    return QuotaUpdated(limits=changed, usage=used, reset_at=RESETS, by="alice")


def model_called(call: int = 1, attempt: int = 1, *, again: bool = False) -> ModelCalled:
    return ModelCalled(
        execution_id="x1",
        call=call,
        attempt=attempt,
        alias="small",
        sha256="5ab1",
        model="qwen3:8b",
        endpoint="127.0.0.1:11434",
        input_tokens=1_200,
        cached_tokens=1_000,
        output_tokens=80,
        reasoning_tokens=30,
        estimated=False,
        cost_usd=0.000228,
        price=None,
        duration_seconds=0.9,
        attempts=1,
        finish_reason=FinishReason.STOP,
        ok=True,
        result={"text": "42", "model": "qwen3:8b", "finish_reason": "stop"},
        reserved=Amount.of(RESERVED),
        drawn=DRAWN,
        again=again,
    )


def words_counted(call: int = 1, result: Any = 3, *, after: int = 0) -> RecordedStep:
    return RecordedStep(call=call, kind="tool", after=after, tool="count_words", arguments={"text": "x"}, result=result)


def steps_recorded(*steps: RecordedStep, execution_id: str = "x1") -> StepsRecorded:
    return StepsRecorded(execution_id=execution_id, steps=steps)


def completed(
    execution_id: str = "x1", *, state: StateChange | None = None, completes: tuple[str, ...] = ()
) -> ExecutionCompleted:
    return ExecutionCompleted(
        execution_id=execution_id,
        output="42",
        tokens=7,
        duration_seconds=3.0,
        calls=0,
        state=state or StateChange(),
        completes=completes,
    )


def execution_failed(
    code: str, message: str, *, execution_id: str = "x1", completes: tuple[str, ...] = ()
) -> ExecutionFailed:
    return ExecutionFailed(execution_id=execution_id, code=code, message=message, completes=completes)


def checkpoint_requested(
    checkpoint_id: str = "k1",
    checkpoint_type: CheckpointType = "manual",
    *,
    label: str | None = None,
    call: int | None = None,
    state: StateChange | UnsetType = UNSET,
    awaited_by: str | None = None,
) -> CheckpointRequested:
    return CheckpointRequested(
        checkpoint_id=checkpoint_id,
        checkpoint_type=checkpoint_type,
        node_id="n1",
        label=label,
        execution_id=None if call is None else "x1",
        call=call,
        state=state,
        awaited_by=awaited_by,
    )


def checkpoint_created(
    checkpoint_id: str = "k1",
    revision: int = 0,
    *,
    checkpoint_type: CheckpointType = "manual",
    label: str | None = None,
    completes: tuple[str, ...] = (),
) -> CheckpointCreated:
    return CheckpointCreated(
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


def checkpoint_failed(
    checkpoint_id: str = "k1", checkpoint_type: CheckpointType = "manual", *, completes: tuple[str, ...] = ()
) -> CheckpointFailed:
    return CheckpointFailed(
        checkpoint_id=checkpoint_id,
        checkpoint_type=checkpoint_type,
        code="E2031",
        message="too large",
        completes=completes,
    )


def stored(checkpoint_id: str = "k1", revision: int = 0, *, label: str | None = None) -> tuple[Event, ...]:
    return checkpoint_requested(checkpoint_id, label=label), checkpoint_created(checkpoint_id, revision, label=label)


def checkpoint_expired(checkpoint_id: str = "k1") -> CheckpointExpired:
    return CheckpointExpired(checkpoint_id=checkpoint_id, storage_location=f"postgres:a1/{checkpoint_id}")


def checkpoint_told(result: Any, call: int = 1, label: str | None = None) -> EffectRecorded:
    return EffectRecorded(execution_id="x1", call=call, kind="checkpoint", request={"label": label}, result=result)


def restore_requested(
    checkpoint_id: str = "k1", *, resume: bool = False, node_id: str = "n1", awaited_by: str | None = None
) -> RestoreRequested:
    return RestoreRequested(
        checkpoint_id=checkpoint_id,
        storage_location=f"postgres:a1/{checkpoint_id}",
        sha256="9f86d081",
        node_id=node_id,
        resume=resume,
        requested_by="alice",
        awaited_by=awaited_by,
    )


def checkpoint_restored(checkpoint_id: str = "k1", *, completes: tuple[str, ...] = ()) -> CheckpointRestored:
    return CheckpointRestored(checkpoint_id=checkpoint_id, restore_seconds=0.01, state={"seen": 5}, completes=completes)


def signalled(name: str = "approve", payload: Any = True) -> SignalReceived:
    return SignalReceived(name=name, payload=payload)


PENDING = (spawn_requested(),)
RUNNING = (*PENDING, spawned())
EXECUTING = (*RUNNING, started())
ASKING = (spawn_requested(spec=replace(SPEC, models=("small",))), spawned(), started())
"""It may ask a model, and is at work."""
RESTARTING = (*RUNNING, restarted())
CHECKPOINTED = (*RUNNING, started(), completed(state=StateChange(set={"seen": 5})), *stored("k1", 2))
"""With a checkpoint that holds it as it is."""
MOVED_ON = (*CHECKPOINTED, signalled())
LIMITED = (
    spawn_requested(spec=replace(SPEC, models=("small",), resource_limits=ResourceLimits(tokens_per_hour=8_000))),
    spawned(),
    started(),
    begun(model_requested()),
    model_called(),
)
"""Of 8,000 tokens an hour its model has used 1,280: a call of 5,000 fits, and another does not."""
MORE_USED = (
    *LIMITED,
    model_requested(3),
    replace(model_called(3), input_tokens=5_000, output_tokens=0, cost_usd=0.0),
)
"""And 5,000 more: no other call fits until it is reset."""
BLOCKED = (*MORE_USED, budget_waiting(), *for_budget())
"""It is suspended until it is reset or raised."""
IDLE = (*CHECKPOINTED, AgentSuspended(session_id="s1", reason="idle", checkpoint_id="k1"))
HELD = (*EXECUTING, tool_requested(), ExecutionFailed(execution_id="x1", code="E2001", message="in doubt", held=True))
SUSPENDED = (*RUNNING, AgentSuspended(session_id="s1", reason="user_request"))
TERMINATION = TerminationRequested(reason="user_request", requested_by="alice")
TERMINATING = (*RUNNING, TERMINATION)
TERMINATED = (*TERMINATING, terminated())
FAILED = (*RUNNING, AgentFailed(code="E2025", message="gave up after 5 restarts"))
