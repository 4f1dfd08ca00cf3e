"""Whether a report about a node tells anything new."""

from __future__ import annotations

from l02.domain.message import Command, Event
from l02.domain.node.commands import Join, Leave, ReportLost
from l02.domain.node.events import NodeJoined, NodeLeft, NodeLost
from l02.domain.node.state import NodeState, NodeStatus

__all__ = ["decide"]


def decide(state: NodeState, command: Command) -> list[Event]:
    """The events that follow from `command`; none if it changes nothing. A node is never refused what it reports."""
    match command:
        case Join():
            return [
                NodeJoined(
                    node_id=command.node_id,
                    capacity=command.capacity,
                    host=command.host,
                    pid=command.pid,
                    http_url=command.http_url,
                    version=command.version,
                )
            ]
        case Leave() if state.status is NodeStatus.JOINED:
            return [NodeLeft(node_id=state.node_id, capacity=state.capacity)]
        case ReportLost() if state.status is NodeStatus.JOINED:
            return [NodeLost(node_id=state.node_id, capacity=state.capacity, reported_by=command.reported_by)]
        case Leave() | ReportLost():
            return []
        case _:
            raise TypeError(f"{type(command).__name__} is not a command to a node")
