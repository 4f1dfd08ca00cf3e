"""A node comes, goes, or is missed by the others: what it reports of itself, and they of it.

A node is never refused what it reports, and none of it comes in over the wire.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from l02.domain.kernel.message import Command, Context, Event, Report
from l02.domain.node.state import Capacity, NodeState, NodeStatus


class NodeEvent(Event, frozen=True, kw_only=True):
    """Something that has happened to a node."""

    @abstractmethod
    def evolve(self, node: NodeState, /) -> NodeState:
        """The node after it."""


class NodeJoined(NodeEvent, Report, frozen=True, kw_only=True):
    """The node is there and takes work. Again for each start of it."""

    type: ClassVar[str] = "node.joined"
    begins: ClassVar[bool] = True
    node_id: str
    capacity: Capacity
    host: str
    pid: int
    http_url: str
    version: str

    def decide(self, node: NodeState, context: Context, /) -> list[NodeEvent]:
        """Whatever was before."""
        return [self]

    def evolve(self, node: NodeState, /) -> NodeState:
        """It is there."""
        return NodeState(status=NodeStatus.JOINED, node_id=self.node_id, capacity=self.capacity)


class Leave(Command, frozen=True, kw_only=True):
    """The node stops."""

    begins: ClassVar[bool] = True

    def decide(self, node: NodeState, context: Context, /) -> list[NodeEvent]:
        """If it was there."""
        return [NodeLeft(node_id=node.node_id, capacity=node.capacity)] if node.is_there else []


class NodeLeft(NodeEvent, frozen=True, kw_only=True):
    """The node was stopped; its agents go on elsewhere, or when it is there again."""

    type: ClassVar[str] = "node.left"
    node_id: str
    capacity: Capacity

    def evolve(self, node: NodeState, /) -> NodeState:
        """It is gone."""
        return NodeState(status=NodeStatus.LEFT, node_id=self.node_id, capacity=self.capacity)


class ReportLost(Command, frozen=True, kw_only=True):
    """Another node has seen that the lease is over."""

    begins: ClassVar[bool] = True
    reported_by: str

    def decide(self, node: NodeState, context: Context, /) -> list[NodeEvent]:
        """If it was there."""
        lost = NodeLost(node_id=node.node_id, capacity=node.capacity, reported_by=self.reported_by)
        return [lost] if node.is_there else []


class NodeLost(NodeEvent, frozen=True, kw_only=True):
    """The node's lease is over; its agents go on elsewhere. `reported_by` is the node that noticed."""

    type: ClassVar[str] = "node.lost"
    node_id: str
    capacity: Capacity
    reported_by: str

    def evolve(self, node: NodeState, /) -> NodeState:
        """It is gone."""
        return NodeState(status=NodeStatus.LOST, node_id=self.node_id, capacity=self.capacity)
