"""The log read once, from the first event on: checked as it is, and folded into what all read models have to hold."""

from __future__ import annotations

import asyncio
from collections import deque
from hashlib import blake2b
from typing import Any, NamedTuple

from nats.aio.msg import Msg

from bus.codec import RecordedEvent, UnreadableEvent, decode_event
from bus.connection import Bus
from bus.history import read_history, sequence_of
from bus.reader import last_sequence
from bus.subjects import AggregateId, aggregate_filter
from l02.discovery import reaching
from l02.stored_events import read_page
from l02.verify.difference import Difference, Report
from l02.verify.invariants import Invariants
from projections.executions import ExecutionState, ExecutionView
from projections.fold import Fold, Key, View, ViewOutOfStep, encode_view
from projections.tables import TABLES
from projections.views import LIVE_VIEWS

__all__ = ["Replayed", "Sealed"]

_FOLDS = tuple(dict.fromkeys([*(table.fold for table in TABLES.values()), *LIVE_VIEWS.values()]))
_POLL_SECONDS = 0.05


class Sealed(NamedTuple):
    """A view that is not going to change any more, in 16 bytes."""

    aggregate: AggregateId
    sequence: int
    digest: bytes

    def is_of(self, encoded: bytes) -> bool:
        """Whether this is what was sealed."""
        return _digest(encoded) == self.digest


class Replayed:
    """What all read models hold when they reflect the events up to `position` and no others.

    In memory are one state and one view for each aggregate, and one view for each execution under way; of executions
    that have ended there is a digest. What it asks of JetStream raises NodeUnreachable.
    """

    def __init__(self, bus: Bus, report: Report, patience: float) -> None:
        self._bus = bus
        self._report = report
        self._patience = patience
        self._ahead: deque[Msg] = deque()
        self._folding = asyncio.Lock()
        self._invariants = Invariants()
        self._views: dict[Fold[Any], dict[Key, Any]] = {fold: {} for fold in _FOLDS}
        self._read = 0
        self._unsealed: tuple[tuple[Fold[Any], AggregateId, int], dict[Key, Any]] | None = None
        self.events = 0
        self.blocked_at: int | None = None
        """The first event that no projection gets past; what comes after it is checked, but not folded."""

    @property
    def position(self) -> int:
        """The last event that is folded."""
        return self._read if self.blocked_at is None else self.blocked_at - 1

    @property
    def aggregates(self) -> int:
        """How many have events."""
        return self._invariants.aggregates

    def views(self, fold: Fold[Any]) -> dict[Key, Any]:
        """The views of a kind by their keys, some of them Sealed."""
        return self._views[fold]

    async def newest(self) -> int:
        """The last event of the stream."""
        with reaching():
            return await last_sequence(self._bus)

    async def fold_to(self, sequence: int) -> None:
        """Go on to this event, which the stream has, and not beyond; nothing if that is done already."""
        async with self._folding:
            while self._read < sequence:
                message = await self._next()
                if message is None:
                    self._missing(sequence + 1)
                elif sequence_of(message) > sequence:
                    self._ahead.appendleft(message)
                    self._missing(sequence + 1)
                else:
                    self._missing(sequence_of(message))
                    self._take(message)

    async def unsealed(self, fold: Fold[Any], key: Key, sealed: Sealed) -> Any:
        """The view that was sealed, folded again. That of the last aggregate asked for is kept."""
        wanted = (fold, sealed.aggregate, self.position)
        if self._unsealed is None or self._unsealed[0] != wanted:
            self._unsealed = wanted, await self._fold_again(fold, sealed.aggregate)
        return self._unsealed[1][key]

    async def _fold_again(self, fold: Fold[Any], aggregate: AggregateId) -> dict[Key, Any]:
        views: dict[Key, Any] = {}
        last, after, more = self.position, 0, True
        while more and after < last:
            with reaching():
                events, more = await read_history(self._bus, aggregate_filter(aggregate), after=after)
            for item in events:
                after = item.sequence
                key = fold.key(item)
                if after <= last and key is not None:
                    views[key] = fold.project(views.get(key), item)
        return views

    async def _next(self) -> Msg | None:
        """The next event that the stream has; None if it has none, also after a while: a replica may lag behind."""
        clock = asyncio.get_running_loop()
        deadline = clock.time() + self._patience
        while not self._ahead:
            with reaching():
                self._ahead.extend(await read_page(self._bus, self._read))
            if not self._ahead:
                if clock.time() > deadline:
                    return None
                await asyncio.sleep(_POLL_SECONDS)
        return self._ahead.popleft()

    def _missing(self, found: int) -> None:
        """The next event is `found`; it ought to be the one after the last."""
        first, last = self._read + 1, found - 1
        if first <= last:
            what = "it" if first == last else f"it and all up to event {last}"
            self._report(Difference(place="events", key="", sequence=first, message=f"the stream has lost {what}"))
        self._read = last

    def _take(self, message: Msg) -> None:
        sequence = sequence_of(message)
        self.events += 1
        subject = (message.headers or {})["Nats-Subject"]
        try:
            recorded = decode_event(message.data, sequence, None)
        except UnreadableEvent as error:
            self._report(Difference(place="events", key=subject, sequence=sequence, message=str(error)))
            self._block(sequence)
        else:
            for difference in self._invariants.check(recorded, subject):
                self._report(difference)
            if self.blocked_at is None:
                self._fold(recorded)
        self._read = sequence

    def _block(self, sequence: int) -> None:
        if self.blocked_at is None:
            self.blocked_at = sequence

    def _fold(self, recorded: RecordedEvent) -> None:
        changed = []
        try:
            for fold, views in self._views.items():
                key = fold.key(recorded)
                if key is not None:
                    changed.append((views, key, self._changed(fold, views.get(key), recorded)))
        except ViewOutOfStep:
            message = f"no projection gets past {recorded.event.type} here; they are compared as of the event before it"
            self._report(
                Difference(place="events", key=str(recorded.aggregate), sequence=recorded.sequence, message=message)
            )
            self._block(recorded.sequence)
        else:
            for views, key, view in changed:
                views[key] = view

    def _changed(self, fold: Fold[Any], view: Any, recorded: RecordedEvent) -> View | Sealed:
        if isinstance(view, Sealed):
            # What ended goes on nevertheless: nothing is known of it any more but where to find it.
            return Sealed(recorded.aggregate, recorded.sequence, b"")
        changed: View = fold.project(view, recorded)
        if isinstance(changed, ExecutionView) and changed.state is not ExecutionState.RUNNING:
            return Sealed(recorded.aggregate, recorded.sequence, _digest(encode_view(changed)))
        return changed


def _digest(encoded: bytes) -> bytes:
    return blake2b(encoded, digest_size=16).digest()
