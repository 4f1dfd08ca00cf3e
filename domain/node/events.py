"""What can have happened to a node."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

from l02.domain.message import Event

__all__ = ["NODE_EVENTS", "Capacity", "NodeEvent", "NodeJoined", "NodeLeft", "NodeLost"]


class Capacity(Struct, frozen=True, kw_only=True):
    """What a node has for its agents: cores, bytes, and the kinds of sandbox it can give."""

    cpu: int
    memory_bytes: int
    runtime_classes: tuple[str, ...]


class NodeJoined(Event, frozen=True, kw_only=True):
    """The node is there and takes work. Again for each start of it."""

    type: ClassVar[str] = "node.joined"
    node_id: str
    capacity: Capacity
    host: str
    pid: int
    http_url: str
    version: str


class NodeLeft(Event, frozen=True, kw_only=True):
    """The node was stopped; its agents go on elsewhere, or when it is there again."""

    type: ClassVar[str] = "node.left"
    node_id: str
    capacity: Capacity


class NodeLost(Event, frozen=True, kw_only=True):
    """The node's lease is over; its agents go on elsewhere. `reported_by` is the node that noticed."""

    type: ClassVar[str] = "node.lost"
    node_id: str
    capacity: Capacity
    reported_by: str


NodeEvent = NodeJoined | NodeLeft | NodeLost

NODE_EVENTS: tuple[type[Event], ...] = NodeEvent.__args__
