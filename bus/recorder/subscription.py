"""A subscription of the library: an iterator over the events of a stream, those that are there and those to come."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from eventsourcing.persistence import ApplicationRecorder, InterfaceError, Notification, Subscription

from l02.bus.recorder.log import EventLog
from l02.bus.recorder.worker import Worker

_BATCHES_AHEAD = 4


class JetStreamSubscription(Subscription[ApplicationRecorder]):
    """Events are received ahead, in batches, on the recorder's loop; a restart of the server is waited for.

    Iterating raises OperationalError if the stream is gone, InterfaceError if the factory is closed. It ends when
    stopped; what it receives with ends when nobody refers to it any more, too.
    """

    def __init__(
        self,
        recorder: ApplicationRecorder,
        worker: Worker,
        log: EventLog,
        gt: int | None = None,
        topics: Sequence[str] = (),
    ) -> None:
        super().__init__(recorder=recorder, gt=gt, topics=topics)
        self._worker = worker
        self._received: deque[Notification] = deque()
        self._batches = _Batches()
        self._receiving = worker.submit(log.follow(gt or 0, topics, self._batches.put))
        weakref.finalize(self, self._receiving.cancel).atexit = False

    def stop(self) -> None:
        """Ends the iteration, also one that is waiting in another thread."""
        super().stop()
        self._receiving.cancel()

    def __next__(self) -> Notification:
        while not self._has_been_stopped:
            if self._received:
                return self._received.popleft()
            try:
                self._received.extend(self._worker.run(self._batches.get(self._receiving)))
            except InterfaceError:
                if not self._has_been_stopped:
                    raise
        raise StopIteration


class _Batches:
    """What has been received and not been asked for yet."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[list[Notification]] = asyncio.Queue(_BATCHES_AHEAD)
        self._ended: asyncio.Future[None] | None = None

    async def put(self, batch: list[Notification]) -> None:
        await self._queue.put(batch)

    async def get(self, receiving: Future[None]) -> list[Notification]:
        """The next batch. Raises what ended the receiving if there is no more."""
        if self._ended is None:
            self._ended = asyncio.wrap_future(receiving)
        batch = asyncio.ensure_future(self._queue.get())
        try:
            either: set[asyncio.Future[Any]] = {batch, self._ended}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not batch.done():
                self._ended.result()
            return await batch
        finally:
            batch.cancel()
