"""What people ask about a node: whether it is there, where, and what it has."""

from __future__ import annotations

from datetime import datetime

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from l02.bus.wire.codec import RecordedEvent
from l02.domain.node.membership import NodeJoined, NodeLeft, NodeLost
from l02.domain.node.state import Capacity, NodeStatus
from l02.projections.folds.fold import Fold, ViewOutOfStep, utc


class NodeView(Struct, frozen=True, kw_only=True):
    """A node as of stream sequence `sequence`. `pid`, `host` and `http_url` are those of its last start.

    `halted_at` is the sequence of a message among its events that cannot be taken in, if there is one.
    """

    node_id: str
    state: NodeStatus
    capacity: Capacity
    host: str
    pid: int
    http_url: str
    version: str
    joined_at: datetime
    updated_at: datetime
    events: int
    sequence: int
    halted_at: int | UnsetType = UNSET


def project_node(view: NodeView | None, recorded: RecordedEvent) -> NodeView:
    """The view after one more of the node's events, which must be the next. Raises ViewOutOfStep if it is not."""
    held = view.events if view is not None else 0
    if recorded.version != held + 1:
        raise ViewOutOfStep(recorded, held)
    event, time = recorded.event, utc(recorded.time)
    if isinstance(event, NodeJoined):
        return NodeView(
            node_id=recorded.aggregate.id,
            state=NodeStatus.JOINED,
            capacity=event.capacity,
            host=event.host,
            pid=event.pid,
            http_url=event.http_url,
            version=event.version,
            joined_at=time,
            updated_at=time,
            events=recorded.version,
            sequence=recorded.sequence,
        )
    if view is None or not isinstance(event, NodeLeft | NodeLost):
        raise ViewOutOfStep(recorded, held)
    state = NodeStatus.LEFT if isinstance(event, NodeLeft) else NodeStatus.LOST
    return replace(view, state=state, updated_at=time, events=recorded.version, sequence=recorded.sequence)


NODE_FOLD = Fold(view=NodeView, project=project_node, kind="node")
