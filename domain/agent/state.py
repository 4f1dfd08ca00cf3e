"""What an agent is: all that decisions about it are made from. How it comes to be is in `evolve`."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct

from l02.domain.agent import events as e
from l02.domain.agent.checkpoint_events import CheckpointType
from l02.domain.agent.event_parts import JournalEntry, PendingSignal
from l02.domain.agent.session import Session
from l02.domain.specification import AgentSpecification

__all__ = [
    "IDLE",
    "AgentState",
    "Execution",
    "JournalEntry",
    "KeptCheckpoint",
    "PendingCheckpoint",
    "PendingRestore",
    "PendingSignal",
    "RequestedTool",
    "Status",
    "initial_state",
]

IDLE = "idle"
"""The reason of a suspension that the agent's next work ends."""


class Status(StrEnum):
    """Where an agent is in its life. `new` is before its first event and never seen outside."""

    NEW = "new"
    PENDING = "pending"
    RUNNING = "running"
    SUSPENDED = "suspended"
    TERMINATED = "terminated"
    FAILED = "failed"


class Waiting(Struct, frozen=True, kw_only=True):
    """A sleep or a wait for a signal that has begun; `deadline` in seconds since 1970, None for ever."""

    kind: str
    request: Any
    deadline: float | None


class RequestedTool(Struct, frozen=True, kw_only=True):
    """A tool that must not be called twice, and is under way."""

    tool: str
    arguments: Any

    @property
    def request(self) -> Any:
        """As it stands in the journal when it has been called."""
        return {"tool": self.tool, "arguments": self.arguments}


class Execution(Struct, frozen=True, kw_only=True):
    """A piece of work under way or in the queue."""

    execution_id: str
    input: Any
    awaited_by: str | None = None
    deadline: float | None = None
    journal: tuple[JournalEntry, ...] = ()
    waiting: dict[int, Waiting] = {}
    requested_tools: dict[int, RequestedTool] = {}

    @property
    def has_run(self) -> bool:
        """Whether a process has got so far with it as to ask for an effect."""
        return bool(self.journal or self.waiting or self.requested_tools)


class KeptCheckpoint(Struct, frozen=True, kw_only=True):
    """A checkpoint that is stored; the fields as in the event that says so."""

    checkpoint_id: str
    checkpoint_type: CheckpointType
    label: str | None
    storage_location: str
    sha256: str
    version: int
    revision: int
    created_at: float


class PendingCheckpoint(Struct, frozen=True, kw_only=True):
    """A checkpoint that is to be stored; the fields as in the event that asks for it.

    `asked_before` of another node, which is lost and may have stored it without saying so.
    """

    checkpoint_id: str
    checkpoint_type: CheckpointType
    node_id: str
    label: str | None = None
    execution_id: str | None = None
    call: int | None = None
    state: e.StateChange | None = None
    awaited_by: str | None = None
    asked_before: bool = False


class PendingRestore(Struct, frozen=True, kw_only=True):
    """The checkpoint that the agent is to be brought back to."""

    checkpoint_id: str
    node_id: str
    resume: bool
    awaited_by: str | None


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
    termination_awaited_by: tuple[str, ...] = ()
    termination_forced: bool = False
    usage: e.ResourceUsage = e.ResourceUsage()
    executions: dict[str, Execution] = {}
    held: dict[str, Execution] = {}
    data: dict[str, Any] = {}
    signals: tuple[PendingSignal, ...] = ()
    suspend_reason: str | None = None
    revision: int = 0
    """Counts the changes of what a checkpoint holds: executions, data and signals."""
    checkpoints: dict[str, KeptCheckpoint] = {}
    pending_checkpoints: dict[str, PendingCheckpoint] = {}
    restoring: PendingRestore | None = None
    session: Session | None = None

    @property
    def specification(self) -> AgentSpecification:
        """The specification of an agent that exists."""
        assert self.spec is not None, "only a new agent has no specification"
        return self.spec

    @property
    def newest_checkpoint(self) -> KeptCheckpoint | None:
        """The one stored last."""
        return next(reversed(self.checkpoints.values()), None)

    @property
    def unchanged_since(self) -> KeptCheckpoint | None:
        """The newest checkpoint, if it holds the agent as it is now."""
        newest = self.newest_checkpoint
        return newest if newest is not None and newest.revision == self.revision else None

    @property
    def sleeps(self) -> bool:
        """Whether it is suspended only until there is work."""
        return self.status is Status.SUSPENDED and self.suspend_reason == IDLE


def initial_state() -> AgentState:
    """An agent before its first event."""
    return AgentState()
