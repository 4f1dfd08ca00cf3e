"""Rebuilds the live views in place while they are watched and written.

All events are folded again, in memory. A key that differs is replaced only if its last writer has seen no event that
is not folded yet, and only as it was then: a projector that is at work meanwhile finds its view replaced, and goes on
from the new one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from l02.bus.connection.bus import Bus
from l02.bus.log.reader import EventReader, last_sequence, read_events
from l02.projections.folds.fold import encode_view
from l02.projections.projector.patience import until_it_works
from l02.projections.tables.database import SCHEMA_VERSION
from l02.projections.views.bucket import Overtaken, StoredValue, ViewBucket
from l02.projections.views.projector import LIVE_VIEWS, POSITION_KEY, stored_position, view_key

_KEYS_IN_FLIGHT = 64
_VERSION_KEY = "_version"


class _Held(msgspec.Struct):
    sequence: int


_held_decoder = msgspec.json.Decoder(_Held)


async def rebuild_views(bus: Bus, on_progress: Callable[[int, int], None]) -> int:
    """Fold all events again and replace the views that differ; the stream sequence up to which they were folded.

    All views are in memory at once.
    """
    total = await until_it_works(lambda: last_sequence(bus))
    async with read_events(bus) as reader:
        rebuilding = _Rebuilding(bus, reader)
        while reader.position < total:
            await rebuilding.fold()
            on_progress(reader.position, max(total, reader.position))
        await rebuilding.replace_all()
        await until_it_works(rebuilding.move_position)
        return reader.position


async def renew_views(bus: Bus) -> None:
    """Rebuild the live views if an earlier version has written them: it knew less of what is in them now."""
    bucket, wanted = ViewBucket(bus), str(SCHEMA_VERSION).encode()
    stored = await until_it_works(lambda: bucket.load(_VERSION_KEY))
    if stored.value == wanted:
        return
    position, _ = await until_it_works(lambda: stored_position(bucket))
    if position:
        await rebuild_views(bus, lambda done, total: None)
    with suppress(Overtaken):  # by another node, which has done the same
        await until_it_works(lambda: bucket.store(_VERSION_KEY, wanted, stored.revision))


class _Rebuilding:
    def __init__(self, bus: Bus, reader: EventReader) -> None:
        self._bus = bus
        self._reader = reader
        self._bucket = ViewBucket(bus)
        self._views: dict[str, Any] = {}
        self._reached = 0
        """What all replaced views reflect at least: a view may be behind the reader, which others have moved on."""
        self._folding = asyncio.Lock()
        self._in_flight = asyncio.Semaphore(_KEYS_IN_FLIGHT)

    async def fold(self) -> None:
        for item in await self._reader.next_batch():
            for kind, fold in LIVE_VIEWS.items():
                key = view_key(kind, item)
                if key is not None and (view := fold.after(self._views.get(key), item)[0]) is not None:
                    self._views[key] = view

    async def replace_all(self) -> None:
        self._reached = self._reader.position
        keys = set(self._views)
        for kind in LIVE_VIEWS:
            keys.update(await until_it_works(lambda kind=kind: self._bucket.keys(kind)))  # type: ignore[misc]
        async with asyncio.TaskGroup() as tasks:
            for key in sorted(keys):
                await self._in_flight.acquire()
                tasks.create_task(self._replace(key)).add_done_callback(lambda _: self._in_flight.release())

    async def move_position(self) -> None:
        """Let projectors begin where the replaced views are, unless they are further."""
        position, revision = await stored_position(self._bucket)
        if self._reached > position or position > await last_sequence(self._bus):
            try:
                await self._bucket.store(POSITION_KEY, str(self._reached).encode(), revision)
            except Overtaken:
                await self.move_position()

    async def _replace(self, key: str) -> None:
        await until_it_works(lambda: self._try_to_replace(key))

    async def _try_to_replace(self, key: str) -> None:
        while True:
            stored = await self._bucket.load(key)
            await self._catch_up_with(stored)
            view = self._views.get(key)
            value = None if view is None else encode_view(view)
            if value == stored.value:
                return
            try:
                if value is None:
                    await self._bucket.delete(key, stored.revision)
                else:
                    await self._bucket.store(key, value, stored.revision)
            except Overtaken:
                continue
            return

    async def _catch_up_with(self, stored: StoredValue) -> None:
        """Fold what the stored view may reflect. One that claims more than the stream has is wrong anyway."""
        held = _sequence_of(stored.value)
        if held <= self._reader.position or held > await last_sequence(self._bus):
            return
        async with self._folding:
            while self._reader.position < held:
                await self.fold()


def _sequence_of(value: bytes | None) -> int:
    """The sequence that a stored view claims to reflect; 0 if it is not a view."""
    try:
        return _held_decoder.decode(value).sequence if value is not None else 0
    except msgspec.MsgspecError:
        return 0
