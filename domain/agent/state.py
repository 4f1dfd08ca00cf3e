"""What an agent is: all that decisions about it are made from, and the rules that are asked of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal, Self

import msgspec
from msgspec import UNSET, Struct, UnsetType, field
from msgspec.structs import replace

from l02.domain.agent.session import Session
from l02.domain.kernel.states import Growing
from l02.domain.specification import AgentSpecification

CheckpointType = Literal["auto", "manual", "pre_suspend", "pre_drain"]

TOOL = "tool"
"""The kind of a tool's answer in a journal."""
THREAD = "thread"
"""The kind of what a thread of the agent's came to: it is no call, and numbered apart from those."""


class ErrorDetail(Struct, frozen=True, kw_only=True):
    """A failure inside an event."""

    code: str
    message: str


class ResourceUsage(Struct, frozen=True, kw_only=True):
    """What an agent has used over its whole life, all its processes together."""

    cpu_seconds: float = 0.0
    memory_peak_bytes: int = 0
    tokens_consumed: int = 0


class StateChange(Struct, frozen=True, kw_only=True):
    """What an execution changed of the agent's durable state."""

    set: dict[str, Any] = {}
    delete: tuple[str, ...] = ()

    def applied_to(self, data: dict[str, Any]) -> dict[str, Any]:
        """The durable state after it."""
        deleted = set(self.delete)
        return {key: value for key, value in data.items() if key not in deleted} | self.set


class NewestState(Struct, frozen=True, kw_only=True):
    """An agent's durable state as of its `version`; `revision` counts what has changed of the agent, as in checkpoints.

    Large values may be references to the object store.
    """

    version: int
    revision: int
    state: dict[str, Any]


class SaidText(Struct, frozen=True, kw_only=True):
    """What an execution had streamed: how many pieces, and the beginning of their hash.

    `sha256` are the first 16 hex digits of that over the pieces, each as a JSON string.
    """

    pieces: int
    sha256: str


class JournalEntry(Struct, frozen=True, kw_only=True):
    """One recorded effect. Replayed to the agent, in the order of the journal, when the execution runs again.

    What the agent did itself says `after` how many answers of the node's it was taken in. A `thread` has a number
    among the threads for `call`. `text` is what it had streamed when it made the call, or took the step in, if that is
    known and there was any.
    """

    call: int
    kind: str
    request: Any
    ok: bool
    result: Any
    after: int | UnsetType = UNSET
    text: SaidText | UnsetType = UNSET

    @property
    def place(self) -> tuple[bool, int]:
        """Which one it is: a thread (True) or a call, and its number."""
        return self.kind == THREAD, self.call

    def is_same(self, other: JournalEntry) -> bool:
        """Whether the other says the same in JSON, where 1 is neither 1.0 nor true; also when, if both say that."""
        if self.after != other.after and UNSET not in (self.after, other.after):
            return False
        said, known = ((one.kind, one.request, one.ok, one.result) for one in (self, other))
        return _encoder.encode(said) == _encoder.encode(known)


_encoder = msgspec.json.Encoder(order="sorted")


class Journal(Growing[JournalEntry]):
    """What an execution has taken from the world, in the order in which the agent took it in."""

    __slots__ = ()
    entry_type = JournalEntry

    @staticmethod
    def place_of(entry: JournalEntry) -> tuple[bool, int]:
        """A call and a thread may have the same number."""
        return entry.place

    def answer(self, call: int | None) -> JournalEntry | None:
        """What is on record of a call."""
        return self.at((False, call))


class PendingSignal(Struct, frozen=True, kw_only=True):
    """A signal that no execution has taken yet."""

    name: str
    payload: Any


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


ENDED = (Status.TERMINATED, Status.FAILED)
AT_WORK = (Status.PENDING, Status.RUNNING)
"""One that is neither suspended nor at its end has a process, or one is on its way."""


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
    journal: Journal = field(default_factory=Journal)
    waiting: dict[int, Waiting] = {}
    requested_tools: dict[int, RequestedTool] = {}

    def has_recorded(self, call: int | None) -> bool:
        """Whether the answer of a call is on record."""
        return self.journal.answer(call) is not None

    @property
    def has_run(self) -> bool:
        """Whether a process has got so far with it as to ask for an effect."""
        return bool(self.journal or self.waiting or self.requested_tools)

    def answered(self, *entries: JournalEntry) -> Self:
        """With these in the journal: their calls are under way no more."""
        tools = {entry.call for entry in entries if entry.kind == TOOL}
        others = {entry.call for entry in entries if entry.kind not in (TOOL, THREAD)}
        return replace(
            self,
            journal=self.journal.plus(*entries),
            waiting={call: wait for call, wait in self.waiting.items() if call not in others},
            requested_tools={call: tool for call, tool in self.requested_tools.items() if call not in tools},
        )


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
    state: StateChange | None = None
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
    node_since: int = 0
    """The incarnation since which the agent is on its node."""
    process_ready: bool = False
    restart_attempt: int = 0
    restart_pending: bool = False
    terminating: str | None = None
    spawn_awaited_by: str | None = None
    termination_awaited_by: tuple[str, ...] = ()
    termination_forced: bool = False
    usage: ResourceUsage = ResourceUsage()
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
    def exists(self) -> bool:
        """Whether it has ever been spawned."""
        return self.status is not Status.NEW

    @property
    def has_ended(self) -> bool:
        """Whether it is terminated or given up."""
        return self.status in ENDED

    @property
    def is_suspended(self) -> bool:
        """Whether it is at rest, at no cost but its row."""
        return self.status is Status.SUSPENDED

    @property
    def is_at_work(self) -> bool:
        """Whether it has a process, or one is on its way, if only after a pause."""
        return self.status in AT_WORK

    @property
    def is_live(self) -> bool:
        """Whether it takes commands at all."""
        return not self.has_ended and self.terminating is None

    @property
    def may_act(self) -> bool:
        """Whether its work may begin what takes effect outside: it is told neither to rest nor to end."""
        return self.is_at_work and self.is_live

    @property
    def is_to_end(self) -> bool:
        """Whether it is asked to end and has not yet."""
        return self.terminating is not None and not self.has_ended

    @property
    def wants_process(self) -> bool:
        """Whether it should have a process now."""
        return self.is_at_work and not self.restart_pending

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
        return self.is_suspended and self.suspend_reason == IDLE

    def is_at_work_on(self, node_id: str) -> bool:
        """Whether it is at work, and that on this node."""
        return self.is_at_work and self.node_id == node_id

    def is_served_by(self, incarnation: int) -> bool:
        """Whether this is the process that it should have."""
        return self.wants_process and incarnation == self.incarnation

    def deadline(self, begins: float) -> float | UnsetType:
        """When work must have ended whose time `begins` then; both in seconds since 1970, UTC. UNSET: no limit."""
        return deadline_of(self.specification, begins)

    def served(self, node_id: str, incarnation: int) -> Self:
        """With a process of this incarnation, on that node."""
        since = self.node_since if node_id == self.node_id else incarnation
        return replace(self, node_id=node_id, incarnation=incarnation, node_since=since)

    def used(self, seen: ResourceUsage) -> ResourceUsage:
        """What the node has seen it use, with the tokens on record: one may have completed work after it looked."""
        return replace(seen, tokens_consumed=self.usage.tokens_consumed)

    def ended(self, status: Status, usage: ResourceUsage) -> Self:
        """After its end."""
        return replace(
            self,
            status=status,
            process_ready=False,
            restart_pending=False,
            spawn_awaited_by=None,
            usage=usage,
            signals=(),
            held={},
            revision=self.revision + 1,
        )

    def with_execution(self, execution: Execution) -> Self:
        """With an execution that is new or has changed."""
        executions = {**self.executions, execution.execution_id: execution}
        return replace(self, executions=executions, revision=self.revision + 1)

    def without_execution(self, execution_id: str, tokens: int) -> Self:
        """With an execution that has ended, and the tokens it took."""
        return replace(
            self,
            executions={key: value for key, value in self.executions.items() if key != execution_id},
            usage=replace(self.usage, tokens_consumed=self.usage.tokens_consumed + tokens),
            revision=self.revision + 1,
        )


def deadline_of(specification: AgentSpecification, begins: float) -> float | UnsetType:
    """When work of an agent with this specification must have ended; see `AgentState.deadline`."""
    seconds = specification.resource_limits.execution_seconds
    return UNSET if seconds is UNSET else begins + seconds


def known_deadline(recorded: float | UnsetType) -> float | None:
    """A deadline as the state has it, of an event that may have none."""
    return None if recorded is UNSET else recorded
