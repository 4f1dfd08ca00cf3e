"""Snapshots: an aggregate with a long past, or one whose events lie far apart, is loaded as fast as a young one.

A snapshot is a cache and never the truth. One that is damaged, that was folded by other code than this, or that does
not meet the event it says it stands at is passed over with a line in the log, and the events are folded from the first
on. It is written in the background; no decision waits for it or fails with it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Generic, TypeVar

import msgspec
import structlog
from msgspec import Meta, Struct
from nats.errors import Error as NatsError

from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import SNAPSHOTS_STREAM
from l02.bus.log.loaded import HandledCommands, Loaded
from l02.bus.wire.subjects import AggregateId, snapshot_subject
from l02.bus.wire.traces import Traces
from l02.domain.kernel.aggregate import Aggregate
from l02.domain.kernel.states import encode_state, state_decoder

S = TypeVar("S")

MAX_SNAPSHOT_BYTES = 4 * 1024 * 1024
EVENTS_PER_SNAPSHOT = 200
# Events far apart lie each in a block of its own (8 MiB, some 12,000 events), and one that the server has not in memory
# costs it 3 ms (measured).
SPREAD_EVENTS = 20
SPREAD_SEQUENCES = 20_000
# A snapshot grows with what has happened: to write it costs each event no more than this (encoding it, some 30 µs).
BYTES_PER_EVENT = 16 * 1024
_WRITES_IN_FLIGHT = 4
_READ_SECONDS = 2.0
_CLOSING_SECONDS = 2.0
_HEADER_BYTES = 4096
# Of the layout below and of the fold in bus/log/loaded.py: to be raised when either changes.
_LAYOUT = 3
_log = structlog.get_logger()


class _Envelope(Struct, frozen=True):
    """The value that is stored. Large fields are read in place: the commands of a long life are a megabyte."""

    made_by: str
    sha256: bytes
    body: memoryview


class _Body(Struct, frozen=True):
    """`state` is JSON, as in the events it was folded from; MessagePack could not hold their large integers."""

    version: Annotated[int, Meta(ge=1)]
    sequence: Annotated[int, Meta(ge=1)]
    event_id: str
    created_at: datetime | None
    state: memoryview
    command_keys: memoryview
    command_facts: memoryview
    own_trace: str | None
    traces: dict[str, str]


class SnapshotUnusable(Exception):
    """Why a snapshot is passed over."""


class SnapshotOutdated(SnapshotUnusable):
    """It was folded by another version of this program, which may have been right."""


_encoder = msgspec.msgpack.Encoder()
_envelope_decoder = msgspec.msgpack.Decoder(_Envelope)
_body_decoder = msgspec.msgpack.Decoder(_Body)


class Snapshots(Generic[S]):
    """The snapshots of one kind of aggregate; made by `open_snapshots`."""

    def __init__(self, bus: Bus, aggregate: Aggregate[S]) -> None:
        self._bus = bus
        self._kind = aggregate.name
        self._decoder: msgspec.json.Decoder[S] = state_decoder(type(aggregate.initial_state()))
        self.made_by = f"{_LAYOUT}.{aggregate.fold_version} {type(aggregate.initial_state()).__qualname__}"
        self._writes: set[asyncio.Task[None]] = set()
        self._too_large: set[str] = set()
        self._closed = False

    async def read(self, aggregate_id: str) -> Loaded[S] | None:
        """The aggregate as of its snapshot, if there is one to be had that is whole and was made by this code.

        Whether it fits the events is for the reader of those to see: that at `sequence` has to have the id `event_id`.
        """
        try:
            return await self.stored(aggregate_id)
        except (SnapshotUnusable, NatsError, TimeoutError) as error:
            address = str(AggregateId(self._kind, aggregate_id))
            _log.warning("snapshot passed over", aggregate=address, reason=str(error) or repr(error))
            return None

    async def stored(self, aggregate_id: str) -> Loaded[S] | None:
        """What the snapshot says, if there is one. Raises SnapshotUnusable and NATS' errors."""
        subject = snapshot_subject(AggregateId(self._kind, aggregate_id))
        message = await self._bus.stored(SNAPSHOTS_STREAM, last_on=subject, timeout=_READ_SECONDS)
        return None if message is None or not message.data else self._decode(message.data)

    def write_if_due(self, aggregate_id: str, loaded: Loaded[S]) -> None:
        """Begin to write a snapshot if loading without one would take long. Call it between decisions."""
        events = loaded.version - loaded.snapshot_version
        spread = loaded.sequence - loaded.snapshot_sequence
        is_due = events >= EVENTS_PER_SNAPSHOT or (events >= SPREAD_EVENTS and spread >= SPREAD_SEQUENCES)
        is_dear = events * BYTES_PER_EVENT < loaded.snapshot_bytes
        if not is_due or is_dear or self._closed or len(self._writes) >= _WRITES_IN_FLIGHT:
            return
        loaded.snapshot_version, loaded.snapshot_sequence = loaded.version, loaded.sequence
        # States are never changed, only replaced, so they can be encoded later; the rest is changed in place.
        still = Loaded(
            loaded.state,
            loaded.version,
            loaded.sequence,
            loaded.event_id,
            loaded.created_at,
            traces=loaded.traces.copy(),
        )
        task = asyncio.create_task(self._write(aggregate_id, loaded, still, loaded.handled.packed()))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def settled(self) -> None:
        """Wait until nothing is being written."""
        while self._writes:
            await asyncio.wait(self._writes)

    async def close(self) -> None:
        """Begin no more, and give what is under way a moment."""
        self._closed = True
        try:
            if self._writes:
                await asyncio.wait(self._writes, timeout=_CLOSING_SECONDS)
        finally:
            for task in self._writes:
                task.cancel()

    async def _write(
        self, aggregate_id: str, loaded: Loaded[S], still: Loaded[S], commands: tuple[bytes, bytes]
    ) -> None:
        address = AggregateId(self._kind, aggregate_id)
        try:
            raw = await asyncio.to_thread(self._encode, still, commands)
            loaded.snapshot_bytes = len(raw)
            limit = min(MAX_SNAPSHOT_BYTES, self._bus.client.max_payload - _HEADER_BYTES)
            if len(raw) <= limit:
                await self._bus.publish(snapshot_subject(address), raw)
                self._too_large.discard(aggregate_id)
            elif aggregate_id not in self._too_large:
                self._too_large.add(aggregate_id)
                _log.warning("snapshot too large to be kept", aggregate=str(address), bytes=len(raw), limit=limit)
        except Exception as error:
            _log.warning("snapshot not written", aggregate=str(address), version=still.version, error=repr(error))

    def _encode(self, still: Loaded[S], commands: tuple[bytes, bytes]) -> bytes:
        body = _encoder.encode(
            _Body(
                version=still.version,
                sequence=still.sequence,
                event_id=still.event_id,
                created_at=still.created_at,
                state=memoryview(encode_state(still.state)),
                command_keys=memoryview(commands[0]),
                command_facts=memoryview(commands[1]),
                own_trace=still.traces.own,
                traces=still.traces.newest,
            )
        )
        return _encoder.encode(_Envelope(self.made_by, hashlib.sha256(body).digest(), memoryview(body)))

    def _decode(self, raw: bytes) -> Loaded[S]:
        try:
            envelope = _envelope_decoder.decode(raw)
            if envelope.made_by != self.made_by:
                raise SnapshotOutdated("it was folded by another version of this program")
            if hashlib.sha256(envelope.body).digest() != envelope.sha256:
                raise SnapshotUnusable("it does not fit its hash")
            body = _body_decoder.decode(envelope.body)
            return Loaded(
                state=self._decoder.decode(body.state),
                version=body.version,
                sequence=body.sequence,
                event_id=body.event_id,
                created_at=body.created_at,
                handled=HandledCommands(body.command_keys, body.command_facts),
                snapshot_version=body.version,
                snapshot_sequence=body.sequence,
                snapshot_bytes=len(raw),
                trail=(body.sequence,),
                traces=Traces(body.own_trace, body.traces),
            )
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
            raise SnapshotUnusable(f"it cannot be read: {error}") from error


@asynccontextmanager
async def open_snapshots(bus: Bus, aggregate: Aggregate[S]) -> AsyncIterator[Snapshots[S]]:
    """The snapshots of a kind of aggregate, as long as the context lasts."""
    snapshots = Snapshots(bus, aggregate)
    try:
        yield snapshots
    finally:
        await snapshots.close()
