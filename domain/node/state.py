"""What a node is, folded from its events."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class Capacity(Struct, frozen=True, kw_only=True):
    """What a node has for its agents: cores, bytes, and the kinds of sandbox it can give."""

    cpu: int
    memory_bytes: int
    runtime_classes: tuple[str, ...]


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

    @property
    def exists(self) -> bool:
        """Whether it has ever joined."""
        return self.status is not NodeStatus.NEW

    @property
    def is_there(self) -> bool:
        """Whether it has joined, and neither left nor been missed since."""
        return self.status is NodeStatus.JOINED
