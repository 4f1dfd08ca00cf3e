"""One event of each type, every field set, and one command of each kind.

A golden file is what one of the events was stored as; see `write`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from l02.bus.wire.codec import RecordedEvent, encode_event
from l02.bus.wire.subjects import AggregateId
from l02.domain.agent.execution import JournalEntry, SaidText
from l02.domain.agent.life.restarts import AgentFailed, AgentRestarted, RestartDue
from l02.domain.agent.life.resuming import ExecutionReopened, Resume
from l02.domain.agent.life.spawning import AgentSpawned, Spawn, SpawnFailed, SpawnRequested
from l02.domain.agent.life.suspension import AgentResumed, AgentSuspended, Suspend
from l02.domain.agent.life.termination import AgentTerminated, Terminate, TerminationRequested
from l02.domain.agent.saved.checkpoints import (
    Checkpoint,
    CheckpointCreated,
    CheckpointExpired,
    CheckpointFailed,
    CheckpointKept,
    CheckpointRequested,
    ExpireCheckpoints,
)
from l02.domain.agent.saved.forks import AgentForked, ExecutionInherited, Fork
from l02.domain.agent.saved.restoring import CheckpointRestored, Restore, RestoreFailed, RestoreRequested
from l02.domain.agent.sessions import (
    SessionDegraded,
    SessionEnded,
    SessionRecovered,
    SessionRestored,
    SessionRolledBack,
    SessionSnapshotSaved,
    SessionStarted,
)
from l02.domain.agent.state import ErrorDetail, PendingSignal, ResourceUsage, StateChange
from l02.domain.agent.work.approvals import ApprovalAnswered, ApprovalRequested, Approve
from l02.domain.agent.work.effects import EffectRecorded, RecordedStep, StepsRecorded, ToolCalled, ToolRequested
from l02.domain.agent.work.executions import (
    Execute,
    ExecutionCompleted,
    ExecutionDue,
    ExecutionStarted,
)
from l02.domain.agent.work.signals import Signal, SignalReceived
from l02.domain.aggregates import EVENT_TYPES
from l02.domain.budget.configuring import Configure
from l02.domain.budget.granting import Deny, Raise
from l02.domain.budget.resetting import Reset, ResetDue
from l02.domain.budget.state import BudgetLimits
from l02.domain.kernel.message import Event, Metadata, WireCommand
from l02.domain.node.membership import NodeJoined, NodeLeft, NodeLost
from l02.domain.node.state import Capacity
from l02.domain.specification import (
    AgentSpecification,
    ExecutorLimits,
    FileAccess,
    LifecycleLimits,
    ResourceLimits,
    SessionSettings,
    ToolServer,
    TrustLevel,
)
from l02.domain.spending.amounts import Amount
from l02.domain.spending.limits import LimitAction, LimitName
from tests.golden.budgets import BUDGETS
from tests.golden.models import EXECUTION_FAILED, LOST, MODEL_CALLED, MODEL_REQUESTED
from tests.golden.quotas import QUOTA_COMMANDS
from tests.golden.resources import RESOURCES

EVENTS = Path(__file__).parent / "events"

_LIMITS = ResourceLimits(cpu="500m", memory="512Mi", tokens_per_hour=50_000, processes=8)
_TIMED = ResourceLimits(execution_seconds=60.0)
_SPECIFICATION = AgentSpecification(
    name="historian",
    entrypoint="/agents/historian.py",
    trust_level=TrustLevel.STANDARD,
    resource_limits=_LIMITS,
    tools={
        "git": ToolServer(
            command=("python", "-m", "mcp_server_git"),
            idempotent=("git_log",),
            read=("/repositories",),
            write=("/repositories/notes",),
            network=("git.example.org",),
            environment={"LANG": "C"},
        )
    },
    environment={"LANG": "de_CH"},
    files=FileAccess(read=("/documents",), write=("/reports",)),
    fleet="archive",
    executor=ExecutorLimits(
        max_concurrent_tools=2,
        tool_timeout_seconds=30.0,
        context_window_tokens=64_000,
        enable_streaming=False,
        retry_on_tool_failure=False,
        max_tool_retries=1,
        max_queued_executions=5,
    ),
    lifecycle=LifecycleLimits(
        spawn_timeout_seconds=10.0,
        graceful_shutdown_seconds=5.0,
        max_restart_count=3,
        restart_delay_seconds=(0.5, 1.5),
        hung_after_seconds=120.0,
        suspend_idle_after_seconds=600.0,
    ),
    session=SessionSettings(task_id="T-7"),
)
_USAGE = ResourceUsage(cpu_seconds=12.5, memory_peak_bytes=104_857_600, tokens_consumed=4321)
_CAPACITY = Capacity(cpu=2, memory_bytes=25_769_803_776, runtime_classes=("process", "landlock"))
_OBJECT = {"$object": "9f86d081", "sha256": "9f86d081884c7d659a2feaa0c55ad015", "size": 300_000}
_JSON: dict[str, Any] = {
    "text": 'Zürich "日本" \u2028\x7f\n',
    "list": [None, True, -1, 2.5, 9007199254740993, {}],
    "": [],
}
_EVENTS: tuple[Event, ...] = (
    SpawnRequested(
        spec=_SPECIFICATION,
        requested_by="alice",
        node_id="n1",
        incarnation=1,
        fleet_id="archive",
        awaited_by="c1",
        state={"seen": 1},
    ),
    AgentSpawned(
        agent_id="a1",
        session_id="s1",
        node_id="n1",
        sandbox_type="landlock",
        trust_level="standard",
        resource_limits=_LIMITS,
        source="cold",
        spawn_seconds=0.25,
        incarnation=1,
        pid=4711,
        completes=("c1",),
    ),
    SpawnFailed(code="E2021", message="the agent did not say hello within 60 s", attempt=2, completes=("c1",)),
    AgentSuspended(session_id="s1", reason="user_request", checkpoint_id="k1"),
    AgentResumed(session_id="s1", node_id="n2", incarnation=2, checkpoint_id="k1"),
    AgentRestarted(attempt=1, delay_seconds=1.0, cause="its process ended: killed by signal 9", usage=_USAGE),
    AgentFailed(code="E2025", message="gave up after 5 restarts", completes=("c1",)),
    TerminationRequested(reason="user_request", requested_by="alice", awaited_by="c2", force=True),
    AgentTerminated(
        session_id="s1",
        reason="user_request",
        resource_usage=_USAGE,
        duration_seconds=3600.5,
        completes=("c2",),
    ),
    ExecutionStarted(execution_id="x1", input=_JSON, awaited_by="x1", deadline=1_790_000_000.5),
    ToolRequested(execution_id="x1", call=1, tool="send_mail", arguments={"to": "bob"}),
    ToolCalled(
        execution_id="x1",
        call=1,
        tool="send_mail",
        arguments={"to": "bob"},
        ok=True,
        result=_OBJECT,
        attempts=2,
        duration_seconds=0.75,
        text=SaidText(pieces=1, sha256="2c26b46b68ffc68f"),
    ),
    EffectRecorded(
        execution_id="x1",
        call=2,
        kind="signal",
        request={"name": "approve", "timeout": 60.0},
        result={"payload": True},
        done=False,
        deadline=1_767_225_660.5,
        text=SaidText(pieces=2, sha256="fcde2b2edba56bf4"),
    ),
    *RESOURCES,
    MODEL_REQUESTED,
    MODEL_CALLED,
    StepsRecorded(
        execution_id="x1",
        steps=(
            RecordedStep(call=3, kind="tool", after=2, tool="count_words", arguments=_OBJECT, result=_JSON),
            RecordedStep(
                call=4,
                kind="tool",
                after=2,
                tool="count_words",
                arguments={"text": "x"},
                ok=False,
                result={"code": "E2002", "message": "no answer within 1 s"},
            ),
            RecordedStep(call=5, kind="now", after=2, result=1_767_225_661.25),
            RecordedStep(call=1, kind="thread", after=3),
        ),
    ),
    ExecutionCompleted(
        execution_id="x1",
        output=_JSON,
        tokens=321,
        duration_seconds=2.5,
        calls=2,
        state=StateChange(set={"seen": 5}, delete=("old",)),
        spent=Amount(tokens=321, cost_usd=0.0125),
        lost=(LOST,),
        completes=("x1",),
    ),
    EXECUTION_FAILED,
    SignalReceived(name="approve", payload=_JSON),
    ExecutionReopened(
        execution_id="x1",
        assumed="done",
        result=_JSON,
        requested_by="alice",
        awaited_by="c5",
        deadline=1_790_000_000.5,
    ),
    CheckpointRequested(
        checkpoint_id="k1",
        checkpoint_type="manual",
        node_id="n1",
        label="before the move",
        execution_id="x1",
        call=3,
        state=StateChange(set={"seen": 5}, delete=("old",)),
        awaited_by="c6",
    ),
    CheckpointCreated(
        checkpoint_id="k1",
        checkpoint_type="manual",
        label="before the move",
        storage_location="postgres:a1/k1",
        size_bytes=65_536,
        compressed_bytes=20_480,
        sha256="9f86d081884c7d659a2feaa0c55ad015",
        version=17,
        revision=9,
        created_at=1_767_225_600.25,
        duration_seconds=0.004,
        completes=("c6",),
    ),
    CheckpointKept(checkpoint_id="k1", label="before the move"),
    CheckpointFailed(
        checkpoint_id="k2", checkpoint_type="auto", code="E2031", message="the state is too large", completes=("c7",)
    ),
    CheckpointExpired(checkpoint_id="k1", storage_location="postgres:a1/k1"),
    RestoreRequested(
        checkpoint_id="k1",
        storage_location="postgres:a1/k1",
        sha256="9f86d081884c7d659a2feaa0c55ad015",
        node_id="n1",
        resume=True,
        requested_by="alice",
        awaited_by="c8",
    ),
    CheckpointRestored(checkpoint_id="k1", restore_seconds=0.002, state={"seen": 5, "log": _OBJECT}, completes=("c8",)),
    RestoreFailed(checkpoint_id="k1", code="E2033", message="the checkpoint has changed", completes=("c8",)),
    AgentForked(
        from_agent_id="a0",
        from_version=17,
        from_sequence=40,
        checkpoint_id="k1",
        state={"seen": 5},
        signals=(PendingSignal(name="approve", payload=_JSON),),
    ),
    ApprovalRequested(execution_id="x1", call=9, server="git", tool="git_push", arguments=_OBJECT),
    ApprovalAnswered(execution_id="x1", call=9, granted=False, reason="not today", answered_by="alice"),
    ExecutionInherited(
        execution_id="x1",
        input=_JSON,
        journal=(JournalEntry(call=1, kind="tool", request={"tool": "git_log"}, ok=True, result=_OBJECT),),
        deadline=1_790_000_000.5,
    ),
    NodeJoined(
        node_id="n1",
        capacity=_CAPACITY,
        host="machine-7",
        pid=4711,
        http_url="http://127.0.0.1:8222",
        version="0.1.0",
    ),
    NodeLeft(node_id="n1", capacity=_CAPACITY),
    NodeLost(node_id="n1", capacity=_CAPACITY, reported_by="n2"),
    *BUDGETS,
)
_SESSION_EVENTS: tuple[Event, ...] = (
    SessionStarted(session_id="s1", task_id="T-7", node_id="n1", version=1),
    SessionSnapshotSaved(
        session_id="s1",
        task_id="T-7",
        checkpoint_id="k1",
        label="before the move",
        version=2,
        context_checkpoint_id="c-5",
        number=1,
        unsent=3,
    ),
    SessionRolledBack(
        session_id="s1",
        task_id="T-7",
        checkpoint_id="k1",
        target="checkpoint c-5",
        backup_checkpoint_id="c-6",
        number=2,
        unsent=1,
    ),
    SessionRecovered(
        session_id="s1", task_id="T-7", node_id="n2", recovery_type="crash", last_activity="2026-01-01T12:30:00Z"
    ),
    SessionEnded(
        session_id="s1",
        task_id="T-7",
        reason="user_request",
        unsent=1,
        error=ErrorDetail(code="E2052", message="the session server did not answer"),
    ),
    SessionDegraded(
        session_id="s1", task_id="T-7", operation="snapshot", code="E2052", message="out of order", gave_up=1
    ),
    SessionRestored(session_id="s1", task_id="T-7"),
)

COMMANDS: tuple[WireCommand, ...] = (
    Spawn(
        spec=AgentSpecification(name="historian", entrypoint="/agents/historian.py", resource_limits=_TIMED),
        fleet_id="archive",
        state={"seen": 1},
    ),
    Execute(input={"question": "how many commits?"}),
    Signal(name="approve", payload=True),
    Approve(execution_id="x1", call=3, granted=False, reason="not today"),
    Suspend(reason="lunch", checkpoint=False),
    Resume(checkpoint_id="k1"),
    Checkpoint(label="before the move"),
    Restore(checkpoint_id="k1"),
    Fork(from_agent_id="a0", at=17),
    ExpireCheckpoints(checkpoint_ids=("k1",), keep=1),
    Terminate(reason="drain", force=True),
    ExecutionDue(execution_id="x1", deadline=1060.0),
    RestartDue(attempt=1),
    *QUOTA_COMMANDS,
    Configure(limits=BudgetLimits(cost_per_day=0.25), parent="research", action=LimitAction.THROTTLE, warn_at=(0.5,)),
    Raise(amount=BudgetLimits(tokens_per_hour=50_000), how_long="always"),
    Deny(),
    Reset(limits=(LimitName.COST_PER_DAY,)),
    ResetDue(at=1_800_000_030.0),
)

SAMPLES = {
    event.type: RecordedEvent(
        event=event,
        aggregate=AggregateId(kind := event.type.partition(".")[0], f"{kind[0]}1"),
        event_id="e1",
        version=7,
        sequence=42,
        time=datetime(2026, 1, 1, 12, 30, 45, 123456, tzinfo=UTC),
        metadata=Metadata(
            causation_id="c3",
            correlation_id="c1",
            actor="alice",
            traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            command_hash="0123456789abcdef0123456789abcdef",
        ),
    )
    for event in (*_EVENTS, *_SESSION_EVENTS)
}


def file_name(event_type: str) -> str:
    """Where the bytes of a type's present schema version are kept; those of earlier ones stay beside it."""
    version = EVENT_TYPES[event_type].schema_version
    return f"{event_type}.json" if version == 1 else f"{event_type}.{version}.json"


def encoded(recorded: RecordedEvent) -> bytes:
    """What is stored of an event."""
    return encode_event(
        recorded.event,
        aggregate=recorded.aggregate,
        event_id=recorded.event_id,
        version=recorded.version,
        time=recorded.time,
        metadata=recorded.metadata,
    )
