"""What can have happened to an agent. With `docs/events.md`, which is generated from here, this is the contract.

Durations are seconds, sizes bytes. A value that may be large is JSON, or a reference to the object store
(`l02.domain.values`). `awaited_by` is the command whose outcome is still owed; the event that ends the wait names it in
`completes`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import UNSET, UnsetType

from l02.domain.agent.checkpoint_events import (
    AgentForked,
    CheckpointCreated,
    CheckpointExpired,
    CheckpointFailed,
    CheckpointKept,
    CheckpointRequested,
    CheckpointRestored,
    ExecutionInherited,
    RestoreFailed,
    RestoreRequested,
)
from l02.domain.agent.event_parts import (
    Completing,
    ErrorDetail,
    JournalEntry,
    PendingSignal,
    ResourceUsage,
    StateChange,
)
from l02.domain.agent.session_events import (
    SessionDegraded,
    SessionEnded,
    SessionRecovered,
    SessionRestored,
    SessionRolledBack,
    SessionSnapshotSaved,
    SessionStarted,
)
from l02.domain.errors import OwnError
from l02.domain.message import Event
from l02.domain.specification import AgentSpecification, ResourceLimits

__all__ = [
    "AGENT_EVENTS",
    "AgentEvent",
    "AgentFailed",
    "AgentForked",
    "AgentRestarted",
    "AgentResumed",
    "AgentSpawned",
    "AgentSuspended",
    "AgentTerminated",
    "CheckpointCreated",
    "CheckpointExpired",
    "CheckpointFailed",
    "CheckpointKept",
    "CheckpointRequested",
    "CheckpointRestored",
    "Completing",
    "EffectRecorded",
    "ErrorDetail",
    "ExecutionCompleted",
    "ExecutionFailed",
    "ExecutionInherited",
    "ExecutionReopened",
    "ExecutionStarted",
    "JournalEntry",
    "PendingSignal",
    "ResourceUsage",
    "RestoreFailed",
    "RestoreRequested",
    "SessionDegraded",
    "SessionEnded",
    "SessionRecovered",
    "SessionRestored",
    "SessionRolledBack",
    "SessionSnapshotSaved",
    "SessionStarted",
    "SignalReceived",
    "SpawnFailed",
    "SpawnRequested",
    "StateChange",
    "TerminationRequested",
    "ToolCalled",
    "ToolRequested",
]


class SpawnRequested(Event, frozen=True, kw_only=True):
    """The agent shall have a process on `node_id`. `incarnation` numbers its processes from 1."""

    type: ClassVar[str] = "agent.spawn.requested"
    schema_version: ClassVar[int] = 3
    spec: AgentSpecification
    requested_by: str
    node_id: str
    incarnation: int
    fleet_id: str | None = None
    awaited_by: str | None = None
    state: dict[str, Any] | UnsetType = UNSET
    """The durable state to begin with, if one was given."""


class AgentSpawned(Completing, frozen=True, kw_only=True):
    """The agent's process has loaded its code and waits for work."""

    type: ClassVar[str] = "agent.spawned"
    agent_id: str
    session_id: str
    node_id: str
    sandbox_type: str
    trust_level: str
    resource_limits: ResourceLimits
    source: str
    spawn_seconds: float
    incarnation: int
    pid: int


class SpawnFailed(Completing, frozen=True, kw_only=True):
    """A process could not be started, or did not get ready in time."""

    type: ClassVar[str] = "agent.spawn.failed"
    code: str
    message: str
    attempt: int


class AgentSuspended(Event, frozen=True, kw_only=True):
    """The agent keeps its past and its state, but no process. If its `reason` is `idle`, the next work resumes it.

    `checkpoint_id` is the checkpoint that holds its state, or will when it is stored.
    """

    type: ClassVar[str] = "agent.suspended"
    session_id: str | None
    reason: str
    checkpoint_id: str | None = None


class AgentResumed(Event, frozen=True, kw_only=True):
    """A suspended agent shall have a process again, on `node_id`, and goes on from `checkpoint_id` if there is one."""

    type: ClassVar[str] = "agent.resumed"
    session_id: str | None
    node_id: str
    incarnation: int
    checkpoint_id: str | None = None


class AgentRestarted(Event, frozen=True, kw_only=True):
    """The process ended without being told to; another one is started after `delay_seconds`."""

    type: ClassVar[str] = "agent.restarted"
    attempt: int
    delay_seconds: float
    cause: str
    usage: ResourceUsage = ResourceUsage()


class AgentFailed(Completing, frozen=True, kw_only=True):
    """The runtime has given the agent up."""

    type: ClassVar[str] = "agent.failed"
    code: str
    message: str
    usage: ResourceUsage = ResourceUsage()


class TerminationRequested(Event, frozen=True, kw_only=True):
    """The agent shall end; it takes no more work."""

    type: ClassVar[str] = "agent.termination.requested"
    schema_version: ClassVar[int] = 2
    reason: str
    requested_by: str
    awaited_by: str | None = None
    force: bool | UnsetType = UNSET
    """True if the process shall be killed at once."""


class AgentTerminated(Completing, frozen=True, kw_only=True):
    """The agent is gone for good, and so is its process."""

    type: ClassVar[str] = "agent.terminated"
    session_id: str | None
    reason: str
    resource_usage: ResourceUsage
    duration_seconds: float


class ExecutionStarted(Event, frozen=True, kw_only=True):
    """A piece of work is accepted; it is worked on in the order of acceptance.

    `deadline` is when it must have ended, in seconds since 1970, UTC, if `execution_seconds` are limited.
    """

    type: ClassVar[str] = "agent.execution.started"
    schema_version: ClassVar[int] = 2
    execution_id: str
    input: Any
    awaited_by: str | None = None
    deadline: float | UnsetType = UNSET


class ToolRequested(Event, frozen=True, kw_only=True):
    """A tool that must not be called twice is about to be called: after a crash, a person has to decide."""

    type: ClassVar[str] = "agent.tool.requested"
    execution_id: str
    call: int
    tool: str
    arguments: Any


class ToolCalled(Event, frozen=True, kw_only=True):
    """A tool was called for an execution, and this came of it."""

    type: ClassVar[str] = "agent.tool.called"
    execution_id: str
    call: int
    tool: str
    arguments: Any
    ok: bool
    result: Any
    attempts: int
    duration_seconds: float


class EffectRecorded(Event, frozen=True, kw_only=True):
    """Something else was taken from the world: `kind` is now, random, sleep, signal or checkpoint.

    A sleep or a wait is recorded when it begins with its `deadline` (seconds since 1970) and `done` false, and again
    when it is over.
    """

    type: ClassVar[str] = "agent.effect.recorded"
    execution_id: str
    call: int
    kind: str
    request: Any
    result: Any
    done: bool = True
    deadline: float | None = None


class ExecutionCompleted(Completing, frozen=True, kw_only=True):
    """The work is done. `tokens` is what went through the agent's context, `calls` how many effects it took."""

    type: ClassVar[str] = "agent.execution.completed"
    execution_id: str
    output: Any
    tokens: int
    duration_seconds: float
    calls: int
    state: StateChange | UnsetType = UNSET


class ExecutionFailed(Completing, frozen=True, kw_only=True):
    """The work ended badly; what it changed of the agent's state is dropped.

    `detail` is what the agent itself calls its failure, beside E2005. It is `held` if only a person can know whether a
    tool took effect: `resume` with `assume` lets it go on.
    """

    type: ClassVar[str] = "agent.execution.failed"
    schema_version: ClassVar[int] = 3
    execution_id: str
    code: str
    message: str
    tokens: int = 0
    held: bool = False
    detail: OwnError | None = None


class ExecutionReopened(Event, frozen=True, kw_only=True):
    """A person has `assumed` that the tools under way in held work are done, with `result`, or not-done: it goes on.

    `deadline` is when it must have ended, in seconds since 1970, UTC: its time begins anew.
    """

    type: ClassVar[str] = "agent.execution.reopened"
    schema_version: ClassVar[int] = 2
    execution_id: str
    assumed: str
    result: Any
    requested_by: str
    awaited_by: str | None = None
    deadline: float | UnsetType = UNSET


class SignalReceived(Event, frozen=True, kw_only=True):
    """Someone told the agent something; a waiting execution takes it, or the next that waits for its name."""

    type: ClassVar[str] = "agent.signal.received"
    name: str
    payload: Any


AgentEvent = (
    SpawnRequested
    | AgentSpawned
    | SpawnFailed
    | AgentSuspended
    | AgentResumed
    | AgentRestarted
    | AgentFailed
    | TerminationRequested
    | AgentTerminated
    | ExecutionStarted
    | ToolRequested
    | ToolCalled
    | EffectRecorded
    | ExecutionCompleted
    | ExecutionFailed
    | SignalReceived
    | ExecutionReopened
    | CheckpointRequested
    | CheckpointCreated
    | CheckpointKept
    | CheckpointFailed
    | CheckpointExpired
    | RestoreRequested
    | CheckpointRestored
    | RestoreFailed
    | AgentForked
    | ExecutionInherited
    | SessionStarted
    | SessionSnapshotSaved
    | SessionRolledBack
    | SessionRecovered
    | SessionDegraded
    | SessionRestored
    | SessionEnded
)

AGENT_EVENTS: tuple[type[Event], ...] = AgentEvent.__args__
