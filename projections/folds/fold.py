"""What every read model is made of: which row an event belongs to, and how it changes that row. Pure.

What cannot be taken in, whatever that is, is set aside by its sequence. If it is an aggregate's, the view of that
aggregate halts there and says so (`halted_at`), until it is rebuilt by a version that can; no other is concerned.

The tables and the live views use the same folds and the same encoder, so what they hold is equal byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, Protocol, TypeVar

import msgspec
from msgspec import UNSET

from l02.bus.wire.codec import LogEntry, RecordedEvent, SetAside
from l02.bus.wire.subjects import event_subject
from l02.domain.identifiers import is_id

Key = tuple[str, ...]

_encoder = msgspec.json.Encoder()


class View(Protocol):
    """The current state of something, with the stream sequence of the last event it reflects."""

    @property
    def sequence(self) -> int: ...


V = TypeVar("V", bound=View)


@dataclass(frozen=True, slots=True)
class Fold(Generic[V]):
    """A kind of view. `project` changes it by an event.

    Either each aggregate of a `kind` has one such view, with a field `halted_at`, and its id for a key; or `key` names
    the view that an event changes (None: no view of this kind).
    """

    view: type[V]
    project: Callable[[V | None, RecordedEvent], V]
    kind: str | None = None
    key: Callable[[RecordedEvent], Key | None] = lambda recorded: None

    def decode(self, view: str | bytes) -> V:
        """The view that a row or a bucket holds."""
        return msgspec.json.decode(view, type=self.view)

    def key_of(self, entry: LogEntry) -> Key | None:
        """The view that an entry of the log changes."""
        aggregate = entry.aggregate
        if aggregate is not None and aggregate.kind == self.kind:
            return (aggregate.id,) if isinstance(entry, RecordedEvent) or is_id(aggregate.id) else None
        return self.key(entry) if isinstance(entry, RecordedEvent) else None

    def after(self, view: V | None, entry: LogEntry) -> tuple[V | None, SetAside | None]:
        """The view after one more entry of the log; and the event as set aside, if that is what has become of it."""
        if view is not None and getattr(view, "halted_at", UNSET) is not UNSET:
            return view, None
        if isinstance(entry, SetAside):
            return self._halted(view, entry), None
        try:
            return self.project(view, entry), None
        except Exception as error:
            reason = str(error) if isinstance(error, ViewOutOfStep) else repr(error)
            subject = event_subject(entry.aggregate, entry.event.type)
            aside = SetAside(sequence=entry.sequence, subject=subject, reason=reason)
            return self._halted(view, aside), aside

    def _halted(self, view: V | None, entry: SetAside) -> V | None:
        if view is None or self.kind is None:
            return view
        return msgspec.structs.replace(view, halted_at=entry.sequence, sequence=entry.sequence)  # type: ignore[type-var]


class ViewOutOfStep(Exception):
    """An event does not follow on what the view holds."""

    def __init__(self, recorded: RecordedEvent, held: int) -> None:
        what = f"{recorded.event.type}, version {recorded.version}"
        where = f"from version {held}" if held else "from nothing"
        super().__init__(f"sequence {recorded.sequence}: {recorded.aggregate} cannot go on {where} with {what}")


def encode_view(view: View) -> bytes:
    """The JSON that tables and buckets hold."""
    return _encoder.encode(view)


def utc(time: datetime) -> datetime:
    """The same instant, written with Z."""
    return time if time.tzinfo is UTC else time.astimezone(UTC)
