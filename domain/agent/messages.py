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


def require_node(agent: AgentState, node_id: str) -> None:
    """Refuse what a node says of an agent that was given to another one meanwhile (E2112)."""
    if agent.node_id != node_id:
        raise Failure(ErrorCode.INVALID_STATE, f"the agent is not on node {node_id} but on {agent.node_id}")
