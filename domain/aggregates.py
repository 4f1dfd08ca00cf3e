"""The table of contents: every aggregate with its decider, its events and the commands it takes from the wire."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from l02.domain.agent.commands import DUE_COMMANDS as AGENT_DUE_COMMANDS
from l02.domain.agent.commands import WIRE_COMMANDS as AGENT_WIRE_COMMANDS
from l02.domain.agent.commands import WireCommand
from l02.domain.agent.decider import decide as decide_agent
from l02.domain.agent.events import AGENT_EVENTS
from l02.domain.agent.evolve import evolve
from l02.domain.agent.state import AgentState, initial_state
from l02.domain.message import Command, Event
from l02.domain.node.decider import decide as decide_node
from l02.domain.node.events import NODE_EVENTS
from l02.domain.node.state import NodeState
from l02.domain.node.state import evolve as evolve_node
from l02.domain.node.state import initial_state as initial_node

__all__ = ["AGENT", "AGGREGATES", "EVENT_TYPES", "NODE", "Aggregate"]

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Aggregate(Generic[S]):
    """One kind of aggregate: `decide` makes events of a command, `evolve` makes the state of events."""

    name: str
    initial_state: Callable[[], S]
    decide: Callable[[S, Command], list[Event]]
    evolve: Callable[[S, Event], S]
    events: tuple[type[Event], ...]
    wire_commands: dict[str, type[WireCommand]]
    due_commands: dict[str, type[WireCommand]]
    """What timers send, and nobody else may."""


AGENT: Aggregate[AgentState] = Aggregate(
    name="agent",
    initial_state=initial_state,
    decide=decide_agent,
    evolve=evolve,
    events=AGENT_EVENTS,
    wire_commands={command.verb: command for command in AGENT_WIRE_COMMANDS},
    due_commands={command.verb: command for command in AGENT_DUE_COMMANDS},
)

NODE: Aggregate[NodeState] = Aggregate(
    name="node",
    initial_state=initial_node,
    decide=decide_node,
    evolve=evolve_node,
    events=NODE_EVENTS,
    wire_commands={},
    due_commands={},
)

AGGREGATES: dict[str, Aggregate[Any]] = {AGENT.name: AGENT, NODE.name: NODE}

EVENT_TYPES: dict[str, type[Event]] = {
    event.type: event for aggregate in AGGREGATES.values() for event in aggregate.events
}
