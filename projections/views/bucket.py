"""A key-value bucket whose keys are only ever changed by someone who has seen their last value."""

from __future__ import annotations

from base64 import b64decode
from typing import Any, NamedTuple

from nats.js.errors import APIError

from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import VIEWS_BUCKET
from l02.bus.jetstream.group_commit import UNEXPECTED_CODES

__all__ = ["Overtaken", "StoredValue", "ViewBucket"]

# Short: a leader that has gone never answers. What it has stored nevertheless shows at the next attempt as Overtaken.
_ACK_SECONDS = 2.0
_NO_MESSAGE = 10037
_OPERATION = b"KV-Operation"
_EXPECTED_REVISION = "Nats-Expected-Last-Subject-Sequence"


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
        answer = await self._api("STREAM.MSG.GET", {"last_by_subj": f"{self._prefix}{key}"})
        if answer is None:
            return StoredValue(None, 0)
        message = answer["message"]
        deleted = _OPERATION in b64decode(message.get("hdrs", ""))
        return StoredValue(None if deleted else b64decode(message.get("data", "")), message["seq"])

    async def store(self, key: str, value: bytes, revision: int) -> int:
        """Replace the value of `revision` (0: the key is new); the new revision. Raises Overtaken and NATS' errors."""
        return await self._publish(key, value, {_EXPECTED_REVISION: str(revision)})

    async def delete(self, key: str, revision: int) -> None:
        """Take the key away as it was at `revision`. Raises Overtaken and NATS' errors."""
        await self._publish(key, b"", {_EXPECTED_REVISION: str(revision), _OPERATION.decode(): "DEL"})

    async def keys(self, kind: str) -> list[str]:
        """All keys `<kind>.<id>` that have a message in the stream, deleted ones too. Raises NATS' errors."""
        found: list[str] = []
        while True:
            request = {"subjects_filter": f"{self._prefix}{kind}.>", "offset": len(found)}
            info = await self._api("STREAM.INFO", request)
            subjects = info["state"].get("subjects") if info is not None else None
            if info is None or not subjects:
                return found
            found += [subject.removeprefix(self._prefix) for subject in subjects]
            if len(found) >= info.get("total", 0):
                return found

    async def _publish(self, key: str, value: bytes, headers: dict[str, str]) -> int:
        try:
            ack = await self._bus.requests.publish(f"{self._prefix}{key}", value, timeout=_ACK_SECONDS, headers=headers)
        except APIError as error:
            if error.err_code in UNEXPECTED_CODES:
                raise Overtaken(key) from error
            raise
        return ack.seq

    async def _api(self, operation: str, request: dict[str, Any]) -> dict[str, Any] | None:
        """JetStream's answer about the bucket's stream; None if what is asked for is not there."""
        answer = await self._bus.api(f"{operation}.{self._stream}", request)
        error = answer.get("error")
        if error is None:
            return answer
        if error.get("err_code") == _NO_MESSAGE:
            return None
        raise APIError.from_error(error)
