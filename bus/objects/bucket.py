"""An object store's bucket, in NATS' own layout, for those who need more of it than putting and getting.

nats-py's reading waits for ever for bytes that are gone, and it can neither remove an object only if nobody has used it
since, nor find the bytes that a crash left without a name. Any client can list and read what is put here.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import msgspec
from nats.aio.msg import Msg

from l02.bus.connection.bus import Bus
from l02.bus.connection.leader import answer_of, message_from_leader, subjects_of
from l02.bus.jetstream.history import read_stored, sequence_of
from l02.bus.jetstream.put import put

_PIECE_BYTES = 128 * 1024
_TIMEOUT_SECONDS = 10.0
_ROLLUP = {"Nats-Rollup": "sub"}


class ObjectDamaged(Exception):
    """What is stored of an object is not what was put there."""


class _Info(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What NATS' clients keep of an object."""

    name: str
    bucket: str
    nuid: str
    size: int
    mtime: str
    chunks: int
    digest: str
    deleted: bool = False


class StoredObject(msgspec.Struct, frozen=True):
    """An object: its name, when it was put or used last (server's time), and the sequence that stands for that."""

    info: _Info
    used_at: datetime
    sequence: int

    @property
    def name(self) -> str:
        """Its name."""
        return self.info.name

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.info.size


_info_decoder = msgspec.json.Decoder(_Info)


class ObjectBucket:
    """Objects by name. All methods raise NATS' errors, TimeoutError among them, if the server is away."""

    def __init__(self, bus: Bus, bucket: str) -> None:
        self._bus = bus
        self._bucket = bucket
        self._stream = f"OBJ_{bucket}"

    async def put(self, name: str, content: bytes) -> None:
        """Store an object, in the place of one with that name; when this returns it is on disk."""
        nuid = uuid.uuid4().hex
        pieces = [content[start : start + _PIECE_BYTES] for start in range(0, len(content), _PIECE_BYTES)]
        # They are sent, and so stored, in their order.
        await asyncio.gather(*(self._publish(self._bytes_of(nuid), piece) for piece in pieces))
        digest = urlsafe_b64encode(hashlib.sha256(content).digest()).decode()
        info = _Info(
            name=name,
            bucket=self._bucket,
            nuid=nuid,
            size=len(content),
            mtime=datetime.now(UTC).isoformat(),
            chunks=len(pieces),
            digest=f"SHA-256={digest}",
        )
        await self._publish(self._name_of(name), msgspec.json.encode(info), _ROLLUP)

    async def find(self, name: str) -> StoredObject | None:
        """The object of that name, None if there is none. Raises ObjectDamaged if what says so cannot be read."""
        message = await self._last(self._name_of(name))
        found = None if message is None else _stored_object(message)
        # Another client deletes an object by saying so.
        return None if found is None or found.info.deleted else found

    async def get(self, name: str) -> bytes | None:
        """The bytes of an object, None if there is none. Raises ObjectDamaged if they are not those that were put."""
        found = await self.find(name)
        if found is None:
            return None
        subject = self._bytes_of(found.info.nuid)
        content, position = bytearray(), 0
        async for message in self._messages(subject):
            content += message.data
            position = sequence_of(message)
        # A copy of the stream may lag; what is not at the leader either is gone.
        while len(content) < found.size:
            missing = await message_from_leader(self._bus, self._stream, sequence=position + 1, next_on=subject)
            if missing is None:
                break
            content += missing.data
            position = missing.sequence
        raw = bytes(content)
        digest = urlsafe_b64encode(hashlib.sha256(raw).digest()).decode()
        if found.name != name or len(raw) != found.size or found.info.digest != f"SHA-256={digest}":
            raise ObjectDamaged(f"object {name} of {self._bucket} is not what was put there")
        return raw

    async def delete(self, name: str) -> None:
        """Remove the object of that name, if there is one. Its bytes may stay until `remove_nameless`."""
        try:
            found = await self.find(name)
        except ObjectDamaged:
            found = None
        await self._purge(self._name_of(name))
        if found is not None:
            await self._purge(self._bytes_of(found.info.nuid))

    async def use(self, found: StoredObject) -> bool:
        """Note that an object is used now; False if it has been replaced, used by another or removed since."""
        subject, raw = self._name_of(found.name), msgspec.json.encode(found.info)
        return await put(self._bus, subject, raw, after=found.sequence, headers=_ROLLUP) is not None

    async def remove(self, found: StoredObject) -> bool:
        """Remove an object as it was found; False if it has been replaced or used since, and stays."""
        name = self._name_of(found.name)
        await self._purge(name, up_to=found.sequence)
        if await self._last(name) is not None:
            return False
        await self._purge(self._bytes_of(found.info.nuid))
        return True

    async def objects(self) -> AsyncIterator[StoredObject]:
        """All objects, the longest unused first. Raises ObjectDamaged."""
        async for message in self._messages(self._name_of(">")):
            yield _stored_object(message)

    async def remove_nameless(self, before: datetime) -> int:
        """Remove bytes stored before a time that belong to no object: of one cut off or replaced; how many objects."""
        stored = set(await subjects_of(self._bus, self._stream, self._bytes_of("*")))
        known = {self._bytes_of(found.info.nuid) async for found in self.objects()}
        removed = 0
        for subject in stored - known:
            last = await self._last(subject)
            if last is not None and _time_of(last) < before:
                await self._purge(subject)
                removed += 1
        return removed

    async def _messages(self, subject: str) -> AsyncIterator[Msg]:
        position, more = 0, True
        while more:
            messages, more = await read_stored(self._bus, self._stream, subject, after=position)
            for message in messages:
                yield message
                position = sequence_of(message)

    async def _last(self, subject: str) -> Msg | None:
        return await self._bus.stored(self._stream, last_on=subject, timeout=_TIMEOUT_SECONDS)

    async def _publish(self, subject: str, payload: bytes, headers: dict[str, str] | None = None) -> None:
        await self._bus.requests.publish(subject, payload, timeout=_TIMEOUT_SECONDS, headers=headers)

    async def _purge(self, subject: str, *, up_to: int | None = None) -> None:
        limit = {} if up_to is None else {"seq": up_to + 1}
        await answer_of(self._bus, f"STREAM.PURGE.{self._stream}", {"filter": subject, **limit})

    def _name_of(self, name: str) -> str:
        token = name if name == ">" else urlsafe_b64encode(name.encode()).decode()
        return f"$O.{self._bucket}.M.{token}"

    def _bytes_of(self, nuid: str) -> str:
        return f"$O.{self._bucket}.C.{nuid}"


def _stored_object(message: Msg) -> StoredObject:
    try:
        info = _info_decoder.decode(message.data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ObjectDamaged(f"an object's description cannot be read: {error}") from error
    return StoredObject(info, _time_of(message), sequence_of(message))


def _time_of(message: Msg) -> datetime:
    assert message.headers is not None
    return datetime.fromisoformat(message.headers["Nats-Time-Stamp"])
