"""What a node is, folded from its events."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from l02.domain.message import Event
from l02.domain.node.events import Capacity, NodeJoined, NodeLeft, NodeLost

__all__ = ["NodeState", "NodeStatus", "evolve", "initial_state"]


class NodeStatus(StrEnum):
    """Where a node is in its life. `new` is before its first event and never seen outside."""

    NEW = "new"
    JOINED = "joined"
    LEFT = "left"
    LOST = "lost"


class NodeState(Struct, frozen=True, kw_only=True):
    """All that decisions about a node are made from."""

    status: NodeStatus = NodeStatus.NEW
    node_id: str = ""
    capacity: Capacity = Capacity(cpu=0, memory_bytes=0, runtime_classes=())


def initial_state() -> NodeState:
    """A node before its first event."""
    return NodeState()


def evolve(state: NodeState, event: Event) -> NodeState:
    """The state after `event`. Never fails on an event that `decide` made."""
    match event:
        case NodeJoined():
            return NodeState(status=NodeStatus.JOINED, node_id=event.node_id, capacity=event.capacity)
        case NodeLeft():
            return NodeState(status=NodeStatus.LEFT, node_id=event.node_id, capacity=event.capacity)
        case NodeLost():
            return NodeState(status=NodeStatus.LOST, node_id=event.node_id, capacity=event.capacity)
        case _:
            raise TypeError(f"{type(event).__name__} is not an event of a node")
