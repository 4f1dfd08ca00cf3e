"""What events of an agent are made of; apart from them, so that each room of events can use it."""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import Struct

from l02.domain.message import Event

__all__ = ["Completing", "ErrorDetail", "JournalEntry", "PendingSignal", "ResourceUsage", "StateChange"]


class ErrorDetail(Struct, frozen=True, kw_only=True):
    """A failure inside an event."""

    code: str
    message: str


class ResourceUsage(Struct, frozen=True, kw_only=True):
    """What an agent has used over its whole life, all its processes together."""

    cpu_seconds: float = 0.0
    memory_peak_bytes: int = 0
    tokens_consumed: int = 0


class StateChange(Struct, frozen=True, kw_only=True):
    """What an execution changed of the agent's durable state."""

    set: dict[str, Any] = {}
    delete: tuple[str, ...] = ()


class JournalEntry(Struct, frozen=True, kw_only=True):
    """One recorded effect. Replayed to the agent, in the order of the journal, when the execution runs again."""

    call: int
    kind: str
    request: Any
    ok: bool
    result: Any


class PendingSignal(Struct, frozen=True, kw_only=True):
    """A signal that no execution has taken yet."""

    name: str
    payload: Any


class Completing(Event, frozen=True, kw_only=True):
    """An event that is the outcome of earlier commands; `completes` holds their ids."""

    type: ClassVar[str]
    completes: tuple[str, ...] = ()
