"""What can be asked of an agent: from outside, over the wire, and from the runtime's own handlers."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from l02.domain.agent.checkpoint_reports import (
    ReportCheckpointFailed,
    ReportCheckpointStored,
    ReportRestored,
    ReportRestoreFailed,
    RequestCheckpoint,
    SuspendIdle,
)
from l02.domain.agent.events import ResourceUsage
from l02.domain.agent.execution_reports import (
    CompleteExecution,
    ExecutorCommand,
    FailExecution,
    RecordEffect,
    RecordTool,
    RequestTool,
)
from l02.domain.agent.forks import Past
from l02.domain.agent.session_reports import (
    ReportRolledBack,
    ReportSessionDegraded,
    ReportSessionEnded,
    ReportSessionRecovered,
    ReportSessionRestored,
    ReportSessionStarted,
    ReportSnapshotSaved,
)
from l02.domain.message import Command
from l02.domain.specification import AgentSpecification, ResourceLimits

__all__ = [
    "DUE_COMMANDS",
    "INTERNAL_COMMANDS",
    "WIRE_COMMANDS",
    "AgentCommand",
    "Checkpoint",
    "CompleteExecution",
    "Execute",
    "ExecutionDue",
    "ExecutorCommand",
    "ExpireCheckpoints",
    "FailExecution",
    "Fork",
    "Origin",
    "RecordEffect",
    "RecordTool",
    "RecoverProcess",
    "ReportCheckpointFailed",
    "ReportCheckpointStored",
    "ReportExit",
    "ReportRestoreFailed",
    "ReportRestored",
    "ReportRolledBack",
    "ReportSessionDegraded",
    "ReportSessionEnded",
    "ReportSessionRecovered",
    "ReportSessionRestored",
    "ReportSessionStarted",
    "ReportSnapshotSaved",
    "ReportSpawnFailed",
    "ReportSpawned",
    "ReportTerminated",
    "RequestCheckpoint",
    "RequestTool",
    "RestartDue",
    "Restore",
    "Resume",
    "Signal",
    "Spawn",
    "Suspend",
    "SuspendIdle",
    "Terminate",
    "WireCommand",
]

Label = Annotated[str, Meta(min_length=1, max_length=200)]


class Origin(Struct, frozen=True, kw_only=True):
    """Where and when a command from the wire came in; the runtime fills it in, never the sender.

    `time` is in seconds since 1970, UTC. `past` is of the agent that a `fork` begins from, None if it had none then.
    """

    agent_id: str = ""
    command_id: str = ""
    node_id: str = ""
    actor: str = ""
    time: float = 0.0
    past: Past | None = None


class WireCommand(Command, frozen=True, kw_only=True):
    """A command from outside. `wait` says when its outcome is wanted, `expected_version` what it was decided upon."""

    verb: ClassVar[str]
    wait: Literal["complete", "accepted"] = "complete"
    expected_version: Annotated[int, Meta(ge=0)] | None = None
    origin: Origin = Origin()

    @property
    def awaited_by(self) -> str | None:
        """The id to complete later, if the sender waits for the effect."""
        return self.origin.command_id if self.wait == "complete" else None


class Spawn(WireCommand, frozen=True, kw_only=True):
    """Make an agent, perhaps with a durable state to begin with (at most 256 KiB of JSON)."""

    verb: ClassVar[str] = "spawn"
    spec: AgentSpecification
    fleet_id: str | None = None
    state: dict[str, Any] | UnsetType = UNSET


class Execute(WireCommand, frozen=True, kw_only=True):
    """Give the agent a piece of work; the execution has the command's id."""

    verb: ClassVar[str] = "execute"
    input: Any


class Signal(WireCommand, frozen=True, kw_only=True):
    """Tell the agent something it waits for, now or later. A payload left out or null is `true`."""

    verb: ClassVar[str] = "signal"
    name: Annotated[str, Meta(min_length=1, max_length=128)]
    payload: Any = None


class Checkpoint(WireCommand, frozen=True, kw_only=True):
    """Store a checkpoint of the agent. If nothing has changed since the newest one, the answer names that."""

    verb: ClassVar[str] = "checkpoint"
    label: Label | None = None


class Restore(WireCommand, frozen=True, kw_only=True):
    """Bring the agent's durable state back to a checkpoint. Work under way ends; its past stays on record."""

    verb: ClassVar[str] = "restore"
    checkpoint_id: str


class Fork(WireCommand, frozen=True, kw_only=True):
    """Make this agent, new, of another one's past: up to the event with stream sequence `at`, up to its `version`, or
    up to a checkpoint; without any of them, up to now. Work that was under way there goes on here; what is recorded of
    it is not done again.
    """

    verb: ClassVar[str] = "fork"
    from_agent_id: str
    at: Annotated[int, Meta(ge=1)] | None = None
    version: Annotated[int, Meta(ge=1)] | None = None
    checkpoint_id: str | None = None

    def __post_init__(self) -> None:
        if sum(point is not None for point in (self.at, self.version, self.checkpoint_id)) > 1:
            raise ValueError("give at most one of `at`, `version` and `checkpoint_id`")


class Suspend(WireCommand, frozen=True, kw_only=True):
    """Take the agent's process away and keep all else; unless `checkpoint` is false, in a checkpoint too."""

    verb: ClassVar[str] = "suspend"
    reason: Annotated[str, Meta(max_length=1000)] = "user_request"
    checkpoint: bool = True


class Resume(WireCommand, frozen=True, kw_only=True):
    """Give a suspended agent a process again: as it is, or brought back to a checkpoint.

    With `assume`, let work go on that is held because only a person can know whether a tool took effect: it did
    (`done`, with its `result`), or it did not and is called again. `execution_id` says which, if there are several.
    """

    verb: ClassVar[str] = "resume"
    checkpoint_id: str | None = None
    assume: Literal["done", "not-done"] | None = None
    execution_id: str | None = None
    result: Any = None

    def __post_init__(self) -> None:
        if self.assume is None and (self.execution_id is not None or self.result is not None):
            raise ValueError("`execution_id` and `result` belong to `assume`")
        if self.assume is not None and self.checkpoint_id is not None:
            raise ValueError("give one of `checkpoint_id` and `assume`")
        if self.assume == "not-done" and self.result is not None:
            raise ValueError("what is not done has no `result`")


class Terminate(WireCommand, frozen=True, kw_only=True):
    """End the agent for good. With `force` its process is killed at once, also while it is given time to end."""

    verb: ClassVar[str] = "terminate"
    reason: Literal["completed", "error", "timeout", "resource_exceeded", "user_request", "drain", "scale_down"] = (
        "user_request"
    )
    force: bool = False


class RestartDue(WireCommand, frozen=True, kw_only=True):
    """The delay of a restart is over. One that comes late or twice is ignored."""

    verb: ClassVar[str] = "restart-due"
    attempt: int


class ExecutionDue(WireCommand, frozen=True, kw_only=True):
    """Work must have ended by `deadline` (seconds since 1970, UTC). Ignored if it has, or was given more time since."""

    verb: ClassVar[str] = "execution-due"
    execution_id: str
    deadline: float


class ExpireCheckpoints(WireCommand, frozen=True, kw_only=True):
    """Give up these checkpoints, but none of the newest `keep`. Any that are gone are ignored."""

    verb: ClassVar[str] = "expire-checkpoints"
    checkpoint_ids: Annotated[tuple[str, ...], Meta(max_length=1000)]
    keep: Annotated[int, Meta(ge=0)] = 10


class ReportSpawned(Command, frozen=True, kw_only=True):
    """The node: the process of this incarnation is ready."""

    verb: ClassVar[str] = "report-spawned"
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


class ReportSpawnFailed(Command, frozen=True, kw_only=True):
    """The node: no process of this incarnation came up. `permanent` when trying again cannot help."""

    verb: ClassVar[str] = "report-spawn-failed"
    incarnation: int
    code: str
    message: str
    permanent: bool


class ReportExit(Command, frozen=True, kw_only=True):
    """The node: the process of this incarnation ended; `ended_with` is the execution that the node ended it with."""

    verb: ClassVar[str] = "report-exit"
    incarnation: int
    cause: str
    usage: ResourceUsage
    ended_with: str | None = None


class RecoverProcess(Command, frozen=True, kw_only=True):
    """The node: it does from now on what `lost_node_id` had to do for the agent, and no fault of the agent's it is.

    That is itself when it has begun anew.
    """

    verb: ClassVar[str] = "recover-process"
    node_id: str
    lost_node_id: str
    cause: str


class ReportTerminated(Command, frozen=True, kw_only=True):
    """The node: the process is gone, as asked."""

    verb: ClassVar[str] = "report-terminated"
    usage: ResourceUsage
    duration_seconds: float


AgentCommand = (
    Spawn
    | Execute
    | Signal
    | Checkpoint
    | Restore
    | Fork
    | Suspend
    | Resume
    | Terminate
    | RestartDue
    | ExecutionDue
    | ExpireCheckpoints
    | ReportSpawned
    | ReportSpawnFailed
    | ReportExit
    | RecoverProcess
    | ReportTerminated
    | RequestTool
    | RecordTool
    | RecordEffect
    | CompleteExecution
    | FailExecution
    | RequestCheckpoint
    | ReportCheckpointStored
    | ReportCheckpointFailed
    | ReportRestored
    | ReportRestoreFailed
    | SuspendIdle
    | ReportRolledBack
    | ReportSessionDegraded
    | ReportSessionEnded
    | ReportSessionRecovered
    | ReportSessionRestored
    | ReportSessionStarted
    | ReportSnapshotSaved
)

WIRE_COMMANDS: tuple[type[WireCommand], ...] = (
    Spawn,
    Execute,
    Signal,
    Checkpoint,
    Restore,
    Fork,
    Suspend,
    Resume,
    Terminate,
)
DUE_COMMANDS: tuple[type[WireCommand], ...] = (RestartDue, ExecutionDue, ExpireCheckpoints)
"""What only the runtime's own timers send."""
INTERNAL_COMMANDS: tuple[type[Command], ...] = tuple(
    command for command in AgentCommand.__args__ if command not in (*WIRE_COMMANDS, *DUE_COMMANDS)
)
