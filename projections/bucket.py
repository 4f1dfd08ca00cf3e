"""A key-value bucket whose keys are only ever changed by someone who has seen their last value."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from nats.js.errors import APIError, NotFoundError

from bus.connection import Bus
from bus.streams import VIEWS_BUCKET

__all__ = ["Overtaken", "StoredValue", "ViewBucket"]

# Short: an answer that a restart of the server has swallowed is waited for no longer than this. What was stored
# nevertheless shows at the next attempt as Overtaken.
_ACK_SECONDS = 2.0
_INFO_SECONDS = 10.0
_WRONG_LAST_SEQUENCE = (10071, 10164)
_OPERATION = "KV-Operation"
_EXPECTED_REVISION = "Nats-Expected-Last-Subject-Sequence"


class Overtaken(Exception):
    """Somebody else has changed the key since it was loaded."""


class StoredValue(NamedTuple):
    """A key's value, None if it has none (any more), and the revision to name when changing it."""

    value: bytes | None
    revision: int


class _Error(msgspec.Struct):
    code: int
    err_code: int = 0
    description: str = ""


class _PubAck(msgspec.Struct):
    error: _Error | None = None
    seq: int = 0


class _State(msgspec.Struct):
    subjects: dict[str, int] = {}


class _Info(msgspec.Struct):
    error: _Error | None = None
    state: _State = msgspec.field(default_factory=_State)
    total: int = 0


_info_decoder = msgspec.json.Decoder(_Info)
_ack_decoder = msgspec.json.Decoder(_PubAck)


class ViewBucket:
    """The bucket of the live views. Reads ask the stream's leader, so they see every acknowledged write."""

    def __init__(self, bus: Bus, bucket: str = VIEWS_BUCKET) -> None:
        self._bus = bus
        self._stream = f"KV_{bucket}"
        self._prefix = f"$KV.{bucket}."

    async def load(self, key: str) -> StoredValue:
        """The present value. Raises NATS' errors."""
        try:
            message = await self._bus.jetstream.get_msg(self._stream, subject=f"{self._prefix}{key}")
        except NotFoundError:
            return StoredValue(None, 0)
        assert message.seq is not None
        deleted = bool(message.headers and _OPERATION in message.headers)
        return StoredValue(None if deleted else message.data or b"", message.seq)

    async def store(self, key: str, value: bytes, revision: int) -> int:
        """Replace the value of `revision` (0: the key is new); the new revision. Raises Overtaken and NATS' errors."""
        return await self._publish(key, value, {_EXPECTED_REVISION: str(revision)})

    async def delete(self, key: str, revision: int) -> None:
        """Take the key away as it was at `revision`. Raises Overtaken and NATS' errors."""
        await self._publish(key, b"", {_EXPECTED_REVISION: str(revision), _OPERATION: "DEL"})

    async def keys(self, kind: str) -> list[str]:
        """All keys `<kind>.<id>` that have a message in the stream, deleted ones too. Raises NATS' errors."""
        found: list[str] = []
        while True:
            request = {"subjects_filter": f"{self._prefix}{kind}.>", "offset": len(found)}
            reply = await self._bus.client.request(
                f"$JS.API.STREAM.INFO.{self._stream}", msgspec.json.encode(request), timeout=_INFO_SECONDS
            )
            info = _info_decoder.decode(reply.data)
            if info.error is not None:
                raise _api_error(info.error)
            subjects = info.state.subjects
            found += [subject.removeprefix(self._prefix) for subject in subjects]
            if not subjects or len(found) >= info.total:
                return found

    async def _publish(self, key: str, value: bytes, headers: dict[str, str]) -> int:
        reply = await self._bus.client.request(f"{self._prefix}{key}", value, timeout=_ACK_SECONDS, headers=headers)
        ack = _ack_decoder.decode(reply.data)
        if ack.error is None:
            return ack.seq
        if ack.error.err_code in _WRONG_LAST_SEQUENCE:
            raise Overtaken(key)
        raise _api_error(ack.error)


def _api_error(error: _Error) -> APIError:
    return APIError(code=error.code, description=error.description, err_code=error.err_code)
