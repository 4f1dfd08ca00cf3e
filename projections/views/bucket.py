"""A key-value bucket whose keys are only ever changed by someone who has seen their last value."""

from __future__ import annotations

from typing import NamedTuple

from l02.bus.connection.bus import Bus
from l02.bus.connection.leader import message_from_leader, subjects_of
from l02.bus.connection.streams import VIEWS_BUCKET
from l02.bus.jetstream.put import put

# Short: a leader that has gone never answers. What it has stored nevertheless shows at the next attempt as Overtaken.
_ACK_SECONDS = 2.0
_OPERATION = "KV-Operation"


class Overtaken(Exception):
    """Somebody else has changed the key since it was loaded."""


class StoredValue(NamedTuple):
    """A key's value, None if it has none (any more), and the revision to name when changing it."""

    value: bytes | None
    revision: int


class ViewBucket:
    """The bucket of the live views. Reads ask the stream's leader, so they see every acknowledged write."""

    def __init__(self, bus: Bus, bucket: str = VIEWS_BUCKET) -> None:
        self._bus = bus
        self._stream = f"KV_{bucket}"
        self._prefix = f"$KV.{bucket}."

    async def load(self, key: str) -> StoredValue:
        """The present value. Raises NATS' errors."""
        message = await message_from_leader(self._bus, self._stream, last_on=f"{self._prefix}{key}")
        if message is None:
            return StoredValue(None, 0)
        return StoredValue(None if _OPERATION in message.headers else message.data, message.sequence)

    async def store(self, key: str, value: bytes, revision: int) -> int:
        """Replace the value of `revision` (0: the key is new); the new revision. Raises Overtaken and NATS' errors."""
        return await self._put(key, value, revision, {})

    async def delete(self, key: str, revision: int) -> None:
        """Take the key away as it was at `revision`. Raises Overtaken and NATS' errors."""
        await self._put(key, b"", revision, {_OPERATION: "DEL"})

    async def keys(self, kind: str) -> list[str]:
        """All keys `<kind>.<id>` that have a message in the stream, deleted ones too. Raises NATS' errors."""
        subjects = await subjects_of(self._bus, self._stream, f"{self._prefix}{kind}.>")
        return [subject.removeprefix(self._prefix) for subject in subjects]

    async def _put(self, key: str, value: bytes, revision: int, headers: dict[str, str]) -> int:
        subject = f"{self._prefix}{key}"
        stored = await put(self._bus, subject, value, after=revision, headers=headers, timeout=_ACK_SECONDS)
        if stored is None:
            raise Overtaken(key)
        return stored
