"""Selecting events from a stream: by originator and version, or by notification id."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple
from uuid import UUID

from eventsourcing.persistence import (
    InterfaceError,
    Notification,
    NotSupportedError,
    OperationalError,
    StoredEvent,
    Tracking,
)
from nats.errors import Error as NatsError

from l02.bus.connection.bus import Bus
from l02.bus.connection.leader import StoredMessage
from l02.bus.jetstream.pull import ConsumerError
from l02.bus.recorder.layout import Layout
from l02.bus.recorder.messages import PAGE_MESSAGES, MessageReader, follow

_MAX_KNOWN = 10_000
_LAGGING_REPLICA_SECONDS = 0.02
# Looking for a place in a history costs some twenty small reads; reading this many events over costs about as much.
_WORTH_SEEKING = 500


class Position(NamedTuple):
    """What a subject has come to: its last sequence, and the highest version up to there."""

    sequence: int
    version: int


NOTHING = Position(0, -1)


class EventLog:
    """A stream of events that can be read. Its coroutines run on the loop of the connection."""

    def __init__(self, bus: Bus, stream: str, layout: Layout, *, patience: float) -> None:
        self.stream = stream
        self._bus = bus
        self._layout = layout
        self._patience = patience
        self._reader = MessageReader(bus, stream)
        self._known: OrderedDict[str, Position] = OrderedDict()

    async def insert(self, events: Sequence[StoredEvent], tracking: Tracking | None = None) -> list[int]:
        """As `EventWriter.insert`; here, NotSupportedError unless there is nothing to insert."""
        if events or tracking:
            raise NotSupportedError(f"stream {self.stream} is only read here")
        return []

    async def last_tracked(self, application_name: str) -> int | None:
        """As `EventWriter.last_tracked`; here, NotSupportedError."""
        raise NotSupportedError(f"stream {self.stream} is only read here: it has no tracking records")

    async def select_events(
        self, originator_id: UUID | str, gt: int | None, lte: int | None, desc: bool, limit: int | None
    ) -> list[StoredEvent]:
        """As `AggregateRecorder.select_events`."""
        subject = self._layout.originator(originator_id)
        async with self.patience("reading events"):
            if desc and limit == 1 and gt is None:
                last = await self._reader.last(subject)
                if last is None:
                    return []
                self._learn(subject, self._position(last))
                event = self._layout.read(last)
                newest = event.originator_version == self._layout.highest_version(last)
                if newest and (lte is None or event.originator_version <= lte):
                    return [_stored(event)]
            after = await self._end_of(subject, gt)
        messages = await self._history(subject, after=after)
        events = [
            _stored(event)
            for event in map(self._layout.read, messages)
            if (gt is None or event.originator_version > gt) and (lte is None or event.originator_version <= lte)
        ]
        events.sort(key=lambda event: event.originator_version, reverse=desc)
        return events[:limit]

    async def select_notifications(
        self, after: int, limit: int, stop: int | None, topics: Sequence[str]
    ) -> list[Notification]:
        """Events with an id above `after`, up to `stop`."""
        found: list[Notification] = []
        more = True
        while more and len(found) < limit and (stop is None or after < stop):
            wanted = PAGE_MESSAGES if topics else limit - len(found)
            messages, more = await self._page(
                self._layout.events, after=after, limit=wanted if stop is None else min(wanted, stop - after)
            )
            for message in messages:
                after = message.sequence
                if stop is not None and after > stop:
                    break
                notification = self._layout.read(message)
                if not topics or notification.topic in topics:
                    found.append(notification)
        return found[:limit]

    async def max_notification_id(self) -> int | None:
        """The id of the newest event."""
        async with self.patience("reading the newest event"):
            last = await self._reader.last(self._layout.events)
        return last.sequence if last else None

    async def follow(
        self, after: int, topics: Sequence[str], put: Callable[[list[Notification]], Awaitable[None]]
    ) -> None:
        """Put batches of the events with an id above `after`, for ever. Raises OperationalError."""
        try:
            async with follow(self._bus, self.stream, after=after, filters=self._layout.topics(topics)) as follower:
                while True:
                    batch = map(self._layout.read, await follower.next_batch())
                    await put([event for event in batch if not topics or event.topic in topics])
        except ConsumerError as error:
            raise OperationalError(str(error)) from error

    @asynccontextmanager
    async def patience(self, doing: str) -> AsyncIterator[None]:
        """Limits an operation's time: OperationalError when it is over, InterfaceError if the connection is closed."""
        try:
            async with asyncio.timeout(self._patience):
                yield
        except TimeoutError as error:
            raise OperationalError(f"{doing}: stream {self.stream} did not answer in {self._patience} s") from error
        except NatsError as error:
            raise InterfaceError(f"{doing}: {error!r}") from error

    async def _history(self, subject: str, *, after: int) -> list[StoredMessage]:
        """All messages on a subject above a sequence, at least up to the last that is known of."""
        messages: list[StoredMessage] = []
        more = True
        while more or after < self._known.get(subject, NOTHING).sequence:
            page, more = await self._page(subject, after=after, reaching=self._known.get(subject, NOTHING).sequence)
            if page:
                messages += page
                after = page[-1].sequence
                self._learn(subject, self._position(page[-1]))
        return messages

    async def _page(
        self, subject_filter: str, *, after: int, limit: int = PAGE_MESSAGES, reaching: int = 0
    ) -> tuple[list[StoredMessage], bool]:
        """A page, and whether there are more. A replica that has not got as far as `reaching` is asked again."""
        async with self.patience("reading events"):
            while True:
                messages, more = await self._reader.page(subject_filter, after=after, limit=limit)
                if messages or after >= reaching:
                    return messages, more
                await asyncio.sleep(_LAGGING_REPLICA_SECONDS)

    async def _end_of(self, subject: str, version: int | None) -> int:
        """A sequence up to which no version on the subject is above `version`."""
        if version is None:
            return 0
        known = self._known.get(subject)
        if known is None and version >= _WORTH_SEEKING and (last := await self._reader.last(subject)):
            self._learn(subject, known := self._position(last))
        if known is None:
            return 0
        if version >= known.version:
            return known.sequence
        if version < _WORTH_SEEKING:
            return 0
        return await self._sequence_reaching(subject, version + 1, known.sequence) - 1

    async def _sequence_reaching(self, subject: str, version: int, end: int) -> int:
        """The subject's next message from here on is the first to reach `version`, as the one at `end` does."""
        start = 1
        while start < end:
            middle = (start + end) // 2
            message = await self._reader.next_from(middle, subject)
            assert message is not None
            if self._layout.highest_version(message) < version:
                start = message.sequence + 1
            else:
                end = middle
        return start

    def _position(self, message: StoredMessage) -> Position:
        return Position(message.sequence, self._layout.highest_version(message))

    def _learn(self, subject: str, position: Position) -> None:
        if position.sequence >= self._known.get(subject, NOTHING).sequence:
            self._known[subject] = position
        self._known.move_to_end(subject)
        if len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)


def _stored(event: Notification) -> StoredEvent:
    return StoredEvent(event.originator_id, event.originator_version, event.topic, event.state)
