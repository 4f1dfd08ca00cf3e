"""What every command and event of an agent has in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import NoReturn

from l02.domain.agent.state import AgentState
from l02.domain.errors import ErrorCode, Failure
from l02.domain.kernel.message import Command, Context, Event, Report, TimerCommand, WireCommand


class AgentEvent(Event, frozen=True, kw_only=True):
    """Something that has happened to an agent."""

    @abstractmethod
    def evolve(self, agent: AgentState, /) -> AgentState:
        """The agent after it."""


class AgentReport(AgentEvent, Report, frozen=True, kw_only=True):
    """Something that the node has seen happen to an agent."""

    @abstractmethod
    def decide(self, agent: AgentState, context: Context, /) -> Sequence[AgentEvent]:
        """The events that follow, if it is news."""


class AgentCommand(WireCommand, frozen=True, kw_only=True):
    """What anybody may ask of an agent."""

    @abstractmethod
    def decide(self, agent: AgentState, context: Context, /) -> Sequence[AgentEvent]:
        """The events that follow."""


class AgentTimerCommand(TimerCommand, frozen=True, kw_only=True):
    """What a timer asks of an agent."""

    @abstractmethod
    def decide(self, agent: AgentState, context: Context, /) -> Sequence[AgentEvent]:
        """The events that follow. One that comes late or twice is ignored."""


class NodeCommand(Command, frozen=True, kw_only=True):
    """What a node asks of an agent of its own accord."""

    @abstractmethod
    def decide(self, agent: AgentState, context: Context, /) -> Sequence[AgentEvent]:
        """The events that follow."""


def refuse(agent: AgentState, wish: str, advice: str) -> NoReturn:
    """Refuse what makes no sense in the present state (E2112)."""
    shown = "terminating" if agent.terminating and not agent.has_ended else agent.status.value
    raise Failure(ErrorCode.INVALID_STATE, f"cannot {wish} an agent that is {shown}; {advice}")


def require_node(agent: AgentState, context: Context) -> None:
    """Refuse what a node says of an agent that was given to another one meanwhile, even if it is back since (E2112)."""
    if agent.node_id != context.node_id:
        raise Failure(ErrorCode.INVALID_STATE, f"the agent is not on node {context.node_id} but on {agent.node_id}")
    if context.incarnation is not None and context.incarnation < agent.node_since:
        raise _of_another_process(agent, context.incarnation)


def require_process(agent: AgentState, context: Context) -> None:
    """Refuse what a process says that is not the agent's any more (E2112)."""
    require_node(agent, context)
    if context.incarnation not in (None, agent.incarnation):
        raise _of_another_process(agent, context.incarnation)


def require_may_act(agent: AgentState, wish: str) -> None:
    """Refuse to begin what would take effect outside when the agent has been told to rest or to end (E2112)."""
    if not agent.may_act:
        refuse(agent, wish, "its work goes on when it is resumed" if agent.is_live else "its work ends with it")


def _of_another_process(agent: AgentState, incarnation: int | None) -> Failure:
    return Failure(
        ErrorCode.INVALID_STATE,
        f"process {incarnation} of the agent is gone; it has process {agent.incarnation} now",
    )
