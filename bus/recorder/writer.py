"""Inserting events, with tracking or without: stored once, together, or not at all."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

from eventsourcing.persistence import (
    DataError,
    IntegrityError,
    NotSupportedError,
    OperationalError,
    StoredEvent,
    Tracking,
)
from nats.errors import Error as NatsError
from nats.js.errors import APIError

from l02.bus.connection.bus import Bus
from l02.bus.jetstream.put import UNEXPECTED_CODES, expecting
from l02.bus.recorder.layout import HIGHEST_HEADER, EventLayout, NewMessage
from l02.bus.recorder.log import NOTHING, EventLog, Position

# The server's limit for one atomic batch.
MAX_BATCH_MESSAGES = 1000
# The server holds fifty unfinished batches of a stream, of all its writers together.
_BATCHES_IN_FLIGHT = 8
_MARK_HEADER = "Eventsourcing-Insert"
_HEADER_BYTES = 4096
_ACK_SECONDS = 2.0
_RETRY_SECONDS = 0.02
_STREAM_EXISTS = 10058
# Not yet; or the batch was not complete, or one too many in flight: in each case nothing was stored.
_AGAIN_CODES = (10163, 10175, 10176, 10210)


class _Placed(NamedTuple):
    """A message and, for the first on its subject, the sequence it must follow there."""

    message: NewMessage
    after: int | None
    headers: dict[str, str]
    highest: int


class EventWriter(EventLog):
    """A log that can be written."""

    _layout: EventLayout

    def __init__(self, bus: Bus, stream: str, layout: EventLayout, *, patience: float) -> None:
        super().__init__(bus, stream, layout, patience=patience)
        self._batches = asyncio.Semaphore(_BATCHES_IN_FLIGHT)

    async def ensure_stream(self, replicas: int) -> None:
        """Make the stream if there is none. OperationalError if there is another by its name."""
        wanted: dict[str, Any] = {
            "name": self.stream,
            "subjects": self._layout.subjects,
            "retention": "limits",
            "storage": "file",
            "num_replicas": replicas,
            "allow_atomic": True,
            "allow_direct": True,
            "deny_delete": True,
            "deny_purge": True,
        }
        async with self.patience("making the stream"):
            answer = await self._bus.api(f"STREAM.CREATE.{self.stream}", wanted, within=None)
            if answer.get("error", {}).get("err_code") == _STREAM_EXISTS:
                answer = await self._bus.api(f"STREAM.INFO.{self.stream}", {}, within=None)
        if error := answer.get("error"):
            raise OperationalError(f"stream {self.stream}: {error.get('description')}")
        config = answer["config"]
        usable = config.get("allow_atomic") and config.get("allow_direct")
        if not usable or not set(wanted["subjects"]) <= set(config["subjects"]):
            raise OperationalError(
                f"stream {self.stream} exists and is not made for this: it needs allow_atomic, allow_direct "
                f"and the subjects {', '.join(wanted['subjects'])}"
            )

    async def last_tracked(self, application_name: str) -> int | None:
        """The highest notification id recorded for an upstream application."""
        async with self.patience("reading the position"):
            last = await self._reader.last(self._layout.tracked(application_name))
        return self._layout.highest_version(last) if last else None

    async def insert(self, events: Sequence[StoredEvent], tracking: Tracking | None = None) -> list[int]:
        """Store the events and the tracking record; the events' notification ids.

        Raises IntegrityError, DataError, NotSupportedError, and OperationalError if it is not known whether they are
        stored.
        """
        messages = [self._layout.new_tracking(tracking)] if tracking else []
        messages += map(self._layout.new_event, events)
        if not messages:
            return []
        self._require_storable(messages)
        async with self.patience("inserting (it is not known whether it was stored)"):
            first = await self._insert(messages, mark=uuid.uuid4().hex)
        numbers = range(first, first + len(messages))
        return list(numbers[len(messages) - len(events) :])

    def _require_storable(self, messages: Sequence[NewMessage]) -> None:
        if len({(message.subject, message.version) for message in messages}) < len(messages):
            raise IntegrityError("two of the events have the same originator and version")
        if len(messages) > MAX_BATCH_MESSAGES:
            raise NotSupportedError(
                f"JetStream stores at most {MAX_BATCH_MESSAGES} messages as one, these are {len(messages)}"
            )
        limit = self._bus.client.max_payload - _HEADER_BYTES
        largest = max(len(message.payload) for message in messages)
        if largest > limit:
            raise DataError(f"the state of an event has {largest} bytes, the NATS server's max_payload allows {limit}")

    async def _insert(self, messages: Sequence[NewMessage], mark: str) -> int:
        """The sequence of the first message. Goes on until it is stored, in conflict, or cancelled."""
        known_only = True
        unanswered: int | None = None
        while True:
            stored = await self._stored_after_all(unanswered, messages, mark)
            if stored is not None:
                return stored
            try:
                placed = await self._place(messages, mark, known_only)
            except IntegrityError:
                # What is in the way may be itself: it was still in a buffer when it was looked for.
                stored = await self._stored_after_all(unanswered, messages, mark)
                if stored is None:
                    raise
                return stored
            try:
                last = await self._publish(placed)
            except APIError as error:
                if error.err_code not in (*UNEXPECTED_CODES, *_AGAIN_CODES) and error.code != 503:
                    raise OperationalError(f"stream {self.stream}: {error.description}") from error
            except (NatsError, TimeoutError):
                if self._bus.client.is_closed:
                    raise
                unanswered = placed[0].after
            else:
                first = last - len(messages) + 1
                for sequence, message in enumerate(placed, start=first):
                    self._learn(message.message.subject, Position(sequence, message.highest))
                return first
            if not known_only:
                await asyncio.sleep(_RETRY_SECONDS)
            known_only = False

    async def _stored_after_all(self, unanswered: int | None, messages: Sequence[NewMessage], mark: str) -> int | None:
        """Where an insertion is that was not answered, if it was stored: it follows what it had to follow."""
        if unanswered is None:
            return None
        follower = await self._reader.next_from(unanswered + 1, messages[0].subject)
        return follower.sequence if follower is not None and follower.headers.get(_MARK_HEADER) == mark else None

    async def _place(self, messages: Sequence[NewMessage], mark: str, known_only: bool) -> list[_Placed]:
        """What each must follow. IntegrityError if a version is there already, or a tracking record not the newest."""
        before: dict[str, Position] = {}
        highest: dict[str, int] = {}
        placed: list[_Placed] = []
        for message in messages:
            subject, headers, after = message.subject, dict(message.headers), None
            if subject not in before:
                before[subject] = await self._position_before(message, known_only)
                highest[subject], after = before[subject].version, before[subject].sequence
            if message.version <= before[subject].version:
                await self._require_new(message, before[subject])
            if message.version <= highest[subject]:
                headers[HIGHEST_HEADER] = str(highest[subject])
            highest[subject] = max(highest[subject], message.version)
            placed.append(_Placed(message, after, headers, highest[subject]))
        placed[0].headers[_MARK_HEADER] = mark
        return placed

    async def _position_before(self, message: NewMessage, known_only: bool) -> Position:
        if known_only:
            if message.subject in self._known:
                return self._known[message.subject]
            if message.version <= 1:
                return NOTHING
        last = await self._reader.last(message.subject)
        position = self._position(last) if last else NOTHING
        self._known[message.subject] = position
        return position

    async def _require_new(self, message: NewMessage, position: Position) -> None:
        what = f"version {message.version} on {message.subject}"
        if message.version == position.version:
            raise IntegrityError(f"{what} is recorded already")
        if message.must_rise:
            raise IntegrityError(f"{what}: {position.version} is recorded already")
        start = await self._sequence_reaching(message.subject, message.version, position.sequence)
        reaching = await self._reader.next_from(start, message.subject)
        assert reaching is not None
        if self._layout.version(reaching) == message.version:
            raise IntegrityError(f"{what} is recorded already")
        late = await self._history(message.subject, after=reaching.sequence)
        if message.version in map(self._layout.version, late):
            raise IntegrityError(f"{what} is recorded already")

    async def _publish(self, placed: Sequence[_Placed]) -> int:
        """Publish, as one atomic batch if there are several; the sequence of the last."""
        messages = [
            (new.subject, new.payload, headers if after is None else headers | expecting(after))
            for new, after, headers, _ in placed
        ]
        async with self._batches if len(messages) > 1 else nullcontext():
            return (await self._bus.requests.publish_together(messages, timeout=_ACK_SECONDS)).seq
