"""The log read once, from the first event on: checked as it is, and folded into what all read models have to hold."""

from __future__ import annotations

import asyncio
from collections import deque
from hashlib import blake2b
from typing import Any, NamedTuple

from nats.aio.msg import Msg

from l02.bus.connection.bus import Bus
from l02.bus.jetstream.history import sequence_of
from l02.bus.log.history import read_log_entries
from l02.bus.log.reader import last_sequence
from l02.bus.wire.codec import LogEntry, SetAside
from l02.bus.wire.subjects import AggregateId, aggregate_filter
from l02.client.discovery import reaching
from l02.client.stored_events import read_page
from l02.projections.folds.executions import ExecutionState, ExecutionView
from l02.projections.folds.fold import Fold, Key, View, encode_view
from l02.projections.tables.definitions import TABLES
from l02.projections.views.projector import LIVE_VIEWS
from l02.verify.difference import Difference, Report
from l02.verify.invariants import Invariants

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

    @property
    def position(self) -> int:
        """The last event that is folded."""
        return self._read

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
                entries, more = await read_log_entries(self._bus, aggregate_filter(aggregate), after=after)
            for item in entries:
                after = item.sequence
                key = fold.key_of(item)
                if after <= last and key is not None and (view := fold.after(views.get(key), item)[0]) is not None:
                    views[key] = view
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
        entry = self._bus.events.entry(message.data, sequence, subject)
        if isinstance(entry, SetAside):
            self._report(Difference(place="events", key=subject, sequence=sequence, message=entry.reason))
        else:
            for difference in self._invariants.check(entry):
                self._report(difference)
        self._fold(entry)
        self._read = sequence

    def _fold(self, entry: LogEntry) -> None:
        aside = None
        for fold, views in self._views.items():
            key = fold.key_of(entry)
            if key is not None:
                view, refused = self._after(fold, views.get(key), entry)
                aside = aside or refused
                if view is not None:
                    views[key] = view
        if aside is not None:
            message = f"the read models have set it aside, and what comes after it of the same: {aside.reason}"
            where = str(entry.aggregate)
            self._report(Difference(place="events", key=where, sequence=aside.sequence, message=message))

    def _after(self, fold: Fold[Any], view: Any, entry: LogEntry) -> tuple[View | Sealed | None, SetAside | None]:
        if isinstance(view, Sealed):
            # What ended goes on nevertheless: nothing is known of it any more but where to find it.
            return Sealed(view.aggregate, entry.sequence, b""), None
        changed, aside = fold.after(view, entry)
        if isinstance(changed, ExecutionView) and changed.state is not ExecutionState.RUNNING:
            aggregate = AggregateId("agent", changed.agent_id)
            return Sealed(aggregate, changed.sequence, _digest(encode_view(changed))), aside
        return changed, aside


def _digest(encoded: bytes) -> bytes:
    return blake2b(encoded, digest_size=16).digest()
