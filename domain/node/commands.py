"""What the runtime's own handlers report of nodes. None of it comes in over the wire."""

from __future__ import annotations

from typing import ClassVar

from l02.domain.message import Command
from l02.domain.node.events import Capacity

__all__ = ["NODE_COMMANDS", "Join", "Leave", "ReportLost"]


class Join(Command, frozen=True, kw_only=True):
    """The node: it is ready for work."""

    verb: ClassVar[str] = "join"
    node_id: str
    capacity: Capacity
    host: str
    pid: int
    http_url: str
    version: str


class Leave(Command, frozen=True, kw_only=True):
    """The node: it stops."""

    verb: ClassVar[str] = "leave"


class ReportLost(Command, frozen=True, kw_only=True):
    """Another node: the lease is over."""

    verb: ClassVar[str] = "report-lost"
    reported_by: str


NODE_COMMANDS: tuple[type[Command], ...] = (Join, Leave, ReportLost)
