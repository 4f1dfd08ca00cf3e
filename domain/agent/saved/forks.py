"""An agent that begins where another one was: its state, its signals, and its work with the answers on record."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from l02.domain.agent.execution import Execution, Journal, JournalEntry
from l02.domain.agent.life.spawning import SpawnRequested, require_new
from l02.domain.agent.messages import AgentCommand, AgentEvent, NodeCommand
from l02.domain.agent.state import AgentState, PendingSignal, deadline_of, known_deadline
from l02.domain.errors import ErrorCode, Failure
from l02.domain.kernel.message import Context
from l02.domain.specification import AgentSpecification


class InheritedExecution(Struct, frozen=True, kw_only=True):
    """Work that was under way, with the answers that were on record."""

    execution_id: str
    input: Any
    journal: tuple[JournalEntry, ...]


class Past(Struct, frozen=True, kw_only=True):
    """An agent as of its `version`, the event with stream sequence `sequence`: all that a fork takes over."""

    version: int
    sequence: int
    spec: AgentSpecification
    data: dict[str, Any]
    signals: tuple[PendingSignal, ...]
    executions: tuple[InheritedExecution, ...]


def past_of(agent: AgentState, version: int, sequence: int) -> Past:
    """The past that has led to `agent`. Waits and calls under way had no answer yet, so a fork begins them anew."""
    return Past(
        version=version,
        sequence=sequence,
        spec=agent.specification,
        data=agent.data,
        signals=agent.signals,
        executions=tuple(
            InheritedExecution(execution_id=item.execution_id, input=item.input, journal=item.journal.as_tuple())
            for item in agent.executions.values()
        ),
    )


class Fork(AgentCommand, frozen=True, kw_only=True):
    """Make this agent, new, of another one's past: up to the event with stream sequence `at`, up to its `version`, or
    up to a checkpoint; without any of them, up to now. Work that was under way there goes on here; what is recorded of
    it is not done again.
    """

    verb: ClassVar[str] = "fork"
    begins: ClassVar[bool] = True
    from_agent_id: str
    at: Annotated[int, Meta(ge=1)] | None = None
    version: Annotated[int, Meta(ge=1)] | None = None
    checkpoint_id: str | None = None

    def __post_init__(self) -> None:
        if sum(point is not None for point in (self.at, self.version, self.checkpoint_id)) > 1:
            raise ValueError("give at most one of `at`, `version` and `checkpoint_id`")

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """Nobody has found that past (`ForkFrom` has it)."""
        require_new(agent)
        raise Failure(
            ErrorCode.AGGREGATE_NOT_FOUND,
            f"there is no agent {self.from_agent_id[:40]!r}, or there was none yet at that point",
            "$.from_agent_id",
        )

    def of(self, past: Past, context: Context) -> ForkFrom:
        """The same, with the past it names."""
        return ForkFrom(
            from_agent_id=self.from_agent_id,
            checkpoint_id=self.checkpoint_id,
            past=past,
            awaited_by=self.awaited_by(context),
        )


class ForkFrom(NodeCommand, frozen=True, kw_only=True):
    """A fork whose past the node has found."""

    begins: ClassVar[bool] = True
    from_agent_id: str
    checkpoint_id: str | None
    past: Past
    awaited_by: str | None

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """The agent begins with that past; the time of its work begins now."""
        require_new(agent)
        past = self.past
        return [
            SpawnRequested(
                spec=past.spec,
                requested_by=context.actor,
                node_id=context.node_id,
                incarnation=1,
                awaited_by=self.awaited_by,
            ),
            AgentForked(
                from_agent_id=self.from_agent_id,
                from_version=past.version,
                from_sequence=past.sequence,
                checkpoint_id=self.checkpoint_id,
                state=past.data,
                signals=past.signals,
            ),
            *(
                ExecutionInherited(
                    execution_id=item.execution_id,
                    input=item.input,
                    journal=item.journal,
                    deadline=deadline_of(past.spec, context.time),
                )
                for item in past.executions
            ),
        ]


class AgentForked(AgentEvent, frozen=True, kw_only=True):
    """This agent begins where another one was at its `from_version`, the event with stream sequence `from_sequence`."""

    type: ClassVar[str] = "agent.forked"
    from_agent_id: str
    from_version: int
    from_sequence: int
    checkpoint_id: str | None
    state: dict[str, Any]
    signals: tuple[PendingSignal, ...]

    def evolve(self, agent: AgentState, /) -> AgentState:
        """Its state and signals are the other's."""
        return replace(agent, data=self.state, signals=self.signals, revision=agent.revision + 1)

    def outcome(self) -> dict[str, Any]:
        """What it begins with."""
        return {"from_agent_id": self.from_agent_id, "from_version": self.from_version}


class ExecutionInherited(AgentEvent, frozen=True, kw_only=True):
    """Work that was under way where this agent was forked: it goes on here, with the answers recorded there.

    `deadline` is when it must have ended, in seconds since 1970, UTC: its time begins anew.
    """

    type: ClassVar[str] = "agent.execution.inherited"
    schema_version: ClassVar[int] = 2
    execution_id: str
    input: Any
    journal: tuple[JournalEntry, ...]
    deadline: float | UnsetType = UNSET

    def evolve(self, agent: AgentState, /) -> AgentState:
        """It is in the queue."""
        return agent.with_execution(
            Execution(
                execution_id=self.execution_id,
                input=self.input,
                journal=Journal(self.journal),
                deadline=known_deadline(self.deadline),
            )
        )
