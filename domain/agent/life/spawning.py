"""How an agent comes to be, and has a process."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from l02.domain.agent.messages import AgentCommand, AgentEvent, AgentReport
from l02.domain.agent.session import Session
from l02.domain.agent.state import AgentState, Status
from l02.domain.errors import ErrorCode, Failure
from l02.domain.identifiers import require_id
from l02.domain.kernel.message import Completing, Context, Refused, command_ids
from l02.domain.specification import AgentSpecification, ResourceLimits, validate_specification
from l02.domain.values import require_state

_FIRST_TOKENS_PER_HOUR = 100_000


class Spawn(AgentCommand, frozen=True, kw_only=True):
    """Make an agent, perhaps with a durable state to begin with (at most 256 KiB of JSON)."""

    verb: ClassVar[str] = "spawn"
    begins: ClassVar[bool] = True
    spec: AgentSpecification
    fleet_id: str | None = None
    state: dict[str, Any] | UnsetType = UNSET

    def as_first_read(self) -> Self:
        """An hourly limit that was left out was this number; now the node's settings say it."""
        limits = self.spec.resource_limits
        if limits.tokens_per_hour is not UNSET:
            return self
        limits = replace(limits, tokens_per_hour=_FIRST_TOKENS_PER_HOUR)
        return replace(self, spec=replace(self.spec, resource_limits=limits))

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """An id is taken once."""
        require_new(agent)
        validate_specification(self.spec)
        if self.fleet_id is not None:
            require_id(self.fleet_id, "$.fleet_id")
        if self.state is not UNSET:
            require_state(self.state, "$.state")
        return [
            SpawnRequested(
                spec=self.spec,
                requested_by=context.actor,
                node_id=context.node_id,
                incarnation=1,
                fleet_id=self.fleet_id or self.spec.fleet,
                awaited_by=self.awaited_by(context),
                state=self.state,
            )
        ]


class SpawnRequested(AgentEvent, frozen=True, kw_only=True):
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

    def evolve(self, agent: AgentState, /) -> AgentState:
        """It is to have a process that begins anew."""
        return replace(
            agent.served(self.node_id, self.incarnation),
            status=Status.PENDING,
            spec=self.spec,
            fleet_id=self.fleet_id,
            process_ready=False,
            restart_pending=False,
            spawn_awaited_by=self.awaited_by or agent.spawn_awaited_by,
            data=agent.data if self.state is UNSET else self.state,
        )

    def owed_to(self) -> str | None:
        """Who waits for it to run."""
        return self.awaited_by


class AgentSpawned(AgentReport, Completing, frozen=True, kw_only=True):
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

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """The session of an agent's first process is that of all that follow."""
        if not agent.is_served_by(self.incarnation) or agent.process_ready:
            return []
        session_id = agent.session_id or self.session_id
        return [replace(self, session_id=session_id, completes=command_ids(agent.spawn_awaited_by))]

    def evolve(self, agent: AgentState, /) -> AgentState:
        """It runs, and its session begins if it has none yet."""
        return replace(
            agent.served(self.node_id, agent.incarnation),
            status=Status.RUNNING,
            session_id=self.session_id,
            process_ready=True,
            spawn_awaited_by=None,
            session=agent.session or Session(task_id=agent.specification.session.task_id or self.agent_id),
        )

    def outcome(self) -> dict[str, Any]:
        """What runs where."""
        fields = ("agent_id", "session_id", "node_id", "sandbox_type", "spawn_seconds")
        return {name: getattr(self, name) for name in fields}


class SpawnFailed(AgentEvent, Completing, frozen=True, kw_only=True):
    """A process could not be started, or did not get ready in time."""

    type: ClassVar[str] = "agent.spawn.failed"
    code: str
    message: str
    attempt: int

    def evolve(self, agent: AgentState, /) -> AgentState:
        """Whoever waits has been told, if it says so."""
        awaited_by = None if agent.spawn_awaited_by in self.completes else agent.spawn_awaited_by
        return replace(agent, process_ready=False, spawn_awaited_by=awaited_by)

    def outcome(self) -> Refused:
        """The spawn is refused."""
        return Refused(code=self.code, message=self.message)


def require_new(agent: AgentState) -> None:
    """Refuse to make an agent that exists (E2112)."""
    if agent.exists:
        raise Failure(ErrorCode.INVALID_STATE, f"the agent exists and is {agent.status.value}; choose another id")


def another_process(agent: AgentState, node_id: str, requested_by: str) -> SpawnRequested:
    """The agent shall have a process that begins anew."""
    return SpawnRequested(
        spec=agent.specification,
        requested_by=requested_by,
        node_id=node_id,
        incarnation=agent.incarnation + 1,
        fleet_id=agent.fleet_id,
    )
