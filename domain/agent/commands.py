"""What can be asked of an agent: from outside, over the wire, and from the runtime's own handlers."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct

from domain.agent.events import ResourceUsage, StateChange
from domain.message import Command
from domain.specification import AgentSpecification, ResourceLimits

__all__ = [
    "INTERNAL_COMMANDS",
    "WIRE_COMMANDS",
    "AgentCommand",
    "CompleteExecution",
    "Execute",
    "ExecutorCommand",
    "FailExecution",
    "Origin",
    "RecordEffect",
    "RecordTool",
    "RecoverProcess",
    "ReportExit",
    "ReportSpawnFailed",
    "ReportSpawned",
    "ReportTerminated",
    "RequestTool",
    "Restart",
    "Resume",
    "Signal",
    "Spawn",
    "Suspend",
    "Terminate",
    "WireCommand",
]


class Origin(Struct, frozen=True, kw_only=True):
    """Where a command from the wire came in; the runtime fills it in, never the sender."""

    agent_id: str = ""
    command_id: str = ""
    node_id: str = ""
    actor: str = ""


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
    """Make an agent."""

    verb: ClassVar[str] = "spawn"
    spec: AgentSpecification
    fleet_id: str | None = None


class Execute(WireCommand, frozen=True, kw_only=True):
    """Give the agent a piece of work; the execution has the command's id."""

    verb: ClassVar[str] = "execute"
    input: Any


class Signal(WireCommand, frozen=True, kw_only=True):
    """Tell the agent something it waits for, now or later."""

    verb: ClassVar[str] = "signal"
    name: Annotated[str, Meta(min_length=1, max_length=128)]
    payload: Any = None


class Suspend(WireCommand, frozen=True, kw_only=True):
    """Take the agent's process away and keep all else."""

    verb: ClassVar[str] = "suspend"
    reason: Annotated[str, Meta(max_length=1000)] = "user_request"


class Resume(WireCommand, frozen=True, kw_only=True):
    """Give a suspended agent a process again."""

    verb: ClassVar[str] = "resume"


class Terminate(WireCommand, frozen=True, kw_only=True):
    """End the agent for good."""

    verb: ClassVar[str] = "terminate"
    reason: Literal["completed", "error", "timeout", "resource_exceeded", "user_request", "drain", "scale_down"] = (
        "user_request"
    )


class Restart(WireCommand, frozen=True, kw_only=True):
    """The delay of a restart is over. Sent by the timer; one that comes late or twice is ignored."""

    verb: ClassVar[str] = "restart"
    attempt: int


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
    """The node: the process of this incarnation ended by itself."""

    verb: ClassVar[str] = "report-exit"
    incarnation: int
    cause: str
    usage: ResourceUsage


class RecoverProcess(Command, frozen=True, kw_only=True):
    """The node: it takes the agent over from `lost_node_id`, whose process of it is gone through no fault of the agent.

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


class ExecutorCommand(Command, frozen=True, kw_only=True):
    """From the executor of a node. One whose agent was given to another node meanwhile is refused."""

    verb: ClassVar[str]
    node_id: str


class RequestTool(ExecutorCommand, frozen=True, kw_only=True):
    """The executor: this tool, which must not be called twice, is about to be called."""

    verb: ClassVar[str] = "request-tool"
    execution_id: str
    call: int
    tool: str
    arguments: Any


class RecordTool(ExecutorCommand, frozen=True, kw_only=True):
    """The executor: this came of a tool call."""

    verb: ClassVar[str] = "record-tool"
    execution_id: str
    call: int
    tool: str
    arguments: Any
    ok: bool
    result: Any
    attempts: int
    duration_seconds: float


class RecordEffect(ExecutorCommand, frozen=True, kw_only=True):
    """The executor: this came of another effect, or a wait began."""

    verb: ClassVar[str] = "record-effect"
    execution_id: str
    call: int
    kind: str
    request: Any
    result: Any = None
    done: bool = True
    deadline: float | None = None


class CompleteExecution(ExecutorCommand, frozen=True, kw_only=True):
    """The executor: the agent has answered."""

    verb: ClassVar[str] = "complete-execution"
    execution_id: str
    output: Any
    tokens: int
    duration_seconds: float
    calls: int
    state: StateChange


class FailExecution(ExecutorCommand, frozen=True, kw_only=True):
    """The executor: the execution cannot go on."""

    verb: ClassVar[str] = "fail-execution"
    execution_id: str
    code: str
    message: str
    tokens: int = 0


AgentCommand = (
    Spawn
    | Execute
    | Signal
    | Suspend
    | Resume
    | Terminate
    | Restart
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
)

WIRE_COMMANDS: tuple[type[WireCommand], ...] = (Spawn, Execute, Signal, Suspend, Resume, Terminate, Restart)
INTERNAL_COMMANDS: tuple[type[Command], ...] = tuple(
    command for command in AgentCommand.__args__ if command not in WIRE_COMMANDS
)
