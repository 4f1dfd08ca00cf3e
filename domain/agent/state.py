"""What an agent is: all that decisions about it are made from, and the rules that are asked of it."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Literal, Self

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from l02.domain.agent.execution import Blocked, Execution, lost_spending
from l02.domain.agent.session import Session
from l02.domain.inference import Spending
from l02.domain.specification import AgentSpecification
from l02.domain.spending.limits import OWN_LIMITS
from l02.domain.spending.money import Usd, in_millionths, in_usd
from l02.domain.spending.windows import Windows, with_settled

CheckpointType = Literal["auto", "manual", "pre_suspend", "pre_drain"]


class ErrorDetail(Struct, frozen=True, kw_only=True):
    """A failure inside an event."""

    code: str
    message: str


class ResourceUsage(Struct, frozen=True, kw_only=True):
    """What an agent has used over its whole life, all its processes together; `cost_usd` if it has asked models."""

    cpu_seconds: float = 0.0
    memory_peak_bytes: int = 0
    tokens_consumed: int = 0
    cost_usd: Usd | UnsetType = UNSET

    def plus(self, spending: Spending) -> Self:
        """With tokens and money that were spent."""
        before = 0 if self.cost_usd is UNSET else in_millionths(self.cost_usd)
        return replace(
            self,
            tokens_consumed=self.tokens_consumed + spending.tokens,
            cost_usd=in_usd(before + spending.cost) if before or spending.cost else self.cost_usd,
        )


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


class PendingSignal(Struct, frozen=True, kw_only=True):
    """A signal that no execution has taken yet."""

    name: str
    payload: Any


IDLE = "idle"
"""The reason of a suspension that the agent's next work ends."""
BUDGET = "budget"
"""The reason of one that ends when there is something left again of the limit that is in the way."""


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
    seen_usage: ResourceUsage | None = None
    """With what the process under way had used when its node last said so."""
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
    windows: Windows = {}
    """What its models have used of its own limits; what is reserved stands with the calls that are open."""

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
        """Whether it is suspended only until there is work, as also when what a limit was in the way of has ended."""
        return self.is_suspended and (
            self.suspend_reason == IDLE or (self.waits_for_budget and not any(self.blocked_calls()))
        )

    @property
    def waits_for_budget(self) -> bool:
        """Whether it is suspended until a limit allows more."""
        return self.is_suspended and self.suspend_reason == BUDGET

    def blocked_calls(self) -> Iterator[tuple[Execution, int, Blocked]]:
        """The calls that wait, since a limit has not got what they may need."""
        for execution in self.executions.values():
            for call, blocked in execution.blocked.items():
                yield execution, call, blocked

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
        """What the node has seen it use, with the tokens and costs on record: they may be newer than its look."""
        return replace(seen, tokens_consumed=self.usage.tokens_consumed, cost_usd=self.usage.cost_usd)

    @property
    def lost(self) -> Spending:
        """What is charged for calls of models that are open, if all work ends now."""
        return lost_spending(call for execution in self.executions.values() for call in execution.lost)

    @property
    def known_usage(self) -> ResourceUsage:
        """What it has used at least, if nobody can say any more what its process has."""
        seen = self.seen_usage or self.usage
        return replace(
            self.usage,
            cpu_seconds=max(self.usage.cpu_seconds, seen.cpu_seconds),
            memory_peak_bytes=max(self.usage.memory_peak_bytes, seen.memory_peak_bytes),
        )

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

    def spending(self, execution: Execution, spent: Spending) -> Self:
        """With an execution as it is after a model was asked, and what that has taken."""
        after = self.with_execution(replace(execution, spent=execution.spent + spent))
        return replace(after, usage=self.usage.plus(spent), windows=self.charged(spent))

    def charged(self, spent: Spending) -> Windows:
        """The windows of its own limits after that was spent."""
        return with_settled(self.windows, OWN_LIMITS, Spending(), spent) if spent else self.windows

    def without_execution(self, execution_id: str, spent: Spending, *, by_models: bool) -> Self:
        """With an execution that has ended, and what was spent on it that was not on record."""
        return replace(
            self,
            executions={key: value for key, value in self.executions.items() if key != execution_id},
            usage=self.usage.plus(spent),
            windows=self.charged(spent) if by_models else self.windows,
            revision=self.revision + 1,
        )


def deadline_of(specification: AgentSpecification, begins: float) -> float | UnsetType:
    """When work of an agent with this specification must have ended; see `AgentState.deadline`."""
    seconds = specification.resource_limits.execution_seconds
    return UNSET if seconds is UNSET else begins + seconds


def known_deadline(recorded: float | UnsetType) -> float | None:
    """A deadline as the state has it, of an event that may have none."""
    return None if recorded is UNSET else recorded
