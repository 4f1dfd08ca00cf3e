"""What every read model is made of: which row an event belongs to, and how it changes that row. Pure.

The tables and the live views use the same folds and the same encoder, so what they hold is equal byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, Protocol, TypeVar

import msgspec

from bus.codec import RecordedEvent

__all__ = ["Fold", "Key", "View", "ViewOutOfStep", "encode_view", "utc"]

Key = tuple[str, ...]

_encoder = msgspec.json.Encoder()


class View(Protocol):
    """The current state of something, with the stream sequence of the last event it reflects."""

    @property
    def sequence(self) -> int: ...


V = TypeVar("V", bound=View)


@dataclass(frozen=True, slots=True)
class Fold(Generic[V]):
    """A kind of view: `key` names the view that an event changes (None: no view of this kind), `project` changes it."""

    view: type[V]
    key: Callable[[RecordedEvent], Key | None]
    project: Callable[[V | None, RecordedEvent], V]


class ViewOutOfStep(Exception):
    """An event does not follow on what the view holds: somebody has changed the view. Rebuild it with `l02 rebuild`."""

    def __init__(self, recorded: RecordedEvent, held: int) -> None:
        super().__init__(
            f"{recorded.aggregate}: the view holds version {held} and cannot go on with {recorded.event.type} "
            f"(version {recorded.version}, sequence {recorded.sequence}); rebuild it with `l02 rebuild`"
        )


def encode_view(view: View) -> bytes:
    """The JSON that tables and buckets hold."""
    return _encoder.encode(view)


def utc(time: datetime) -> datetime:
    """The same instant, written with Z."""
    return time if time.tzinfo is UTC else time.astimezone(UTC)
