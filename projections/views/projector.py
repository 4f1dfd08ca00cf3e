"""Keeps the live views in step with the event stream: one key for each agent, watched by whoever wants to.

A view says which event it reflects, so an event that comes again changes nothing, and the position may lag behind the
views. Several nodes may write: the key's revision decides, and who loses looks again and leaves out what is done.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import structlog
from nats.errors import MaxPayloadError

from l02.bus.background.cancelling import end
from l02.bus.connection.bus import Bus
from l02.bus.log.history import read_log_entries
from l02.bus.log.reader import last_sequence
from l02.bus.wire.codec import UNDECODABLE, LogEntry
from l02.bus.wire.subjects import aggregate_filter
from l02.projections.folds.fold import Fold, encode_view
from l02.projections.projector.cache import BoundedCache
from l02.projections.projector.pace import gathering_seconds
from l02.projections.projector.patience import until_it_works
from l02.projections.projector.progress import Observer
from l02.projections.projector.read_ahead import read_ahead
from l02.projections.tables.definitions import TABLES
from l02.projections.tables.projector import ProjectionAhead
from l02.projections.views.bucket import Overtaken, ViewBucket

VIEWS = "views"
POSITION_KEY = "_position"
_POSITION = re.compile(rb"[0-9]{1,20}")
LIVE_VIEWS: dict[str, Fold[Any]] = {
    table.fold.kind: table.fold for table in TABLES.values() if table.fold.kind is not None
}

_CACHE_BYTES = 4 * 1024 * 1024
_WRITES_IN_FLIGHT = 256
_BATCH_EVENTS = 4_000
_log = structlog.get_logger()
_POSITION_SECONDS = 0.5
# An agent at work has many events in a moment, and who watches needs only the last state of it.
_GATHER_SECONDS = 0.025


def view_key(kind: str, entry: LogEntry) -> str | None:
    """The key of the view of this kind that an entry of the log changes: `agent.a1`."""
    key = LIVE_VIEWS[kind].key_of(entry)
    return None if key is None else ".".join((kind, *key))


async def stored_position(bucket: ViewBucket) -> tuple[int, int]:
    """How far the views have come at least, and the revision that says so."""
    stored = await bucket.load(POSITION_KEY)
    return (int(stored.value) if stored.value and _POSITION.fullmatch(stored.value) else 0), stored.revision


def _advanced(fold: Fold[Any], view: Any, entries: Sequence[LogEntry]) -> tuple[Any, bool]:
    """The view after the entries that it does not reflect yet; and whether they all followed on it."""
    held = view.sequence if view is not None else 0
    for entry in entries:
        if entry.sequence > held:
            view, aside = fold.after(view, entry)
            if aside is not None:
                return view, False
    return view, True


class ViewProjector:
    """Projects the event stream into the bucket of live views, which exists (see `ensure_streams`)."""

    def __init__(self, bus: Bus, progress: Observer) -> None:
        self._bus = bus
        self._progress = progress
        self._bucket = ViewBucket(bus)
        self._position = 0
        self._known: BoundedCache[str, tuple[Any, int]] = BoundedCache(_CACHE_BYTES)
        self._writes = asyncio.Semaphore(_WRITES_IN_FLIGHT)

    async def run(self, until: int | None = None) -> None:
        """Project for ever, or until the views have reached the stream sequence `until`.

        A JetStream that is away is waited for. What does not pass by itself is raised.
        """
        position, revision = await until_it_works(lambda: stored_position(self._bucket))
        newest = await until_it_works(lambda: last_sequence(self._bus))
        if position > newest:
            raise ProjectionAhead(
                f"the live views are at event {position}, the stream ends at {newest}: run `l02 rebuild {VIEWS}`"
            )
        self._reached(position)
        keeper = asyncio.create_task(self._keep_position(position, revision))
        try:
            async with read_ahead(self._bus, after=position) as events:
                while until is None or self._position < until:
                    batch = await events.next_batch()
                    while len(batch) < _BATCH_EVENTS and events.ready:
                        batch = batch + await events.next_batch()
                    began = time.monotonic()
                    await self._apply(batch)
                    self._reached(batch[-1].sequence)
                    if len(batch) < _BATCH_EVENTS:
                        took = time.monotonic() - began
                        await self._progress.pause(gathering_seconds(_GATHER_SECONDS, took, len(batch)))
        finally:
            await end(keeper)
        _, revision = await until_it_works(lambda: stored_position(self._bucket))
        await self._store_position(self._position, revision)

    def _reached(self, position: int) -> None:
        self._position = position
        self._progress.reached(VIEWS, position)

    async def _keep_position(self, stored: int, revision: int) -> None:
        """Store the position now and then: a write for each event would double the work, and it may lag behind."""
        while True:
            await asyncio.sleep(_POSITION_SECONDS)
            if self._position != stored:
                stored = self._position
                revision = await self._store_position(stored, revision)

    async def _apply(self, entries: Sequence[LogEntry]) -> None:
        """Bring all views that the entries change up to the last of them."""
        changes: dict[tuple[str, str], list[LogEntry]] = defaultdict(list)
        for item in entries:
            for kind in LIVE_VIEWS:
                key = view_key(kind, item)
                if key is not None:
                    changes[kind, key].append(item)
        async with asyncio.TaskGroup() as tasks:
            for (kind, key), items in changes.items():
                tasks.create_task(self._change(LIVE_VIEWS[kind], key, items))

    async def _change(self, fold: Fold[Any], key: str, entries: list[LogEntry]) -> None:
        async with self._writes:
            await until_it_works(lambda: self._try_to_change(fold, key, entries))

    async def _try_to_change(self, fold: Fold[Any], key: str, entries: list[LogEntry]) -> None:
        while True:
            known = self._known.get(key)
            # Until the write is acknowledged, nothing is known about the key.
            self._known.discard(key)
            before, revision = known if known is not None else await self._load(fold, key)
            view, is_right = _advanced(fold, before, entries)
            if not is_right:
                view = await self._folded_anew(fold, entries[-1])
            if view is None:
                return
            encoded = encode_view(view)
            try:
                if view is not before:
                    revision = await self._bucket.store(key, encoded, revision)
            except Overtaken:
                continue
            except MaxPayloadError:
                _log.error("a live view is larger than a message, and stays as it was", key=key, bytes=len(encoded))
                return
            self._known.put(key, (view, revision), len(encoded))
            return

    async def _load(self, fold: Fold[Any], key: str) -> tuple[Any, int]:
        """The view that is stored; None also if somebody has put there what is none."""
        stored = await self._bucket.load(key)
        try:
            view = None if stored.value is None else fold.decode(stored.value)
        except UNDECODABLE:
            view = None
        return view, stored.revision

    async def _folded_anew(self, fold: Fold[Any], last: LogEntry) -> Any:
        """The view by all the events up to `last`, whatever is stored: that, or what came then, is not right."""
        aggregate = last.aggregate
        assert aggregate is not None, "it has a view"
        view, after, more = None, 0, True
        while more and after < last.sequence:
            entries, more = await read_log_entries(self._bus, aggregate_filter(aggregate), after=after)
            for entry in entries:
                after = entry.sequence
                if after <= last.sequence:
                    view, _ = fold.after(view, entry)
        return view

    async def _store_position(self, position: int, revision: int) -> int:
        """Move the stored position forward; its revision."""

        async def store() -> int:
            known = revision
            while True:
                try:
                    return await self._bucket.store(POSITION_KEY, str(position).encode(), known)
                except Overtaken:
                    stored, known = await stored_position(self._bucket)
                    if stored >= position:
                        return known

        return await until_it_works(store)
