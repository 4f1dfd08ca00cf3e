"""Hot state in a key-value bucket that NATS keeps in memory, the default: nothing more has to run."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from nats.js.errors import NoStreamResponseError

from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import HOT_STREAM, ensure_hot_bucket
from l02.bus.jetstream.history import sequence_of
from l02.bus.jetstream.put import put
from l02.bus.wire.subjects import hot_subject

_log = structlog.get_logger()
# A server that is away is not waited for.
_TIMEOUT_SECONDS = 1.0
_VERSION = struct.Struct(">Q")
_NO_STATE = -1
# What a message has beside its payload: subject and headers.
_ROOM_BYTES = 1024
_AWAY = (NatsError, OSError, TimeoutError)


class NatsHotState:
    """A `HotState`."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def open(self) -> None:
        """Make the bucket. While the server is away that has it nobody can; then the first does that is put there."""
        try:
            await self._make()
        except _AWAY as error:
            _log.warning("hot state is away", error=repr(error))

    async def _make(self) -> None:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            await ensure_hot_bucket(self._bus)

    async def put(self, agent_id: str, version: int, data: bytes) -> None:
        if len(data) > self._bus.client.max_payload - _ROOM_BYTES:
            _log.debug("state too large to be hot", agent_id=agent_id, bytes=len(data))
            await self.delete(agent_id)
            return
        try:
            try:
                await self._put(agent_id, version, data)
            except (NoRespondersError, NoStreamResponseError):
                # The server has been restarted, and what it had in memory is gone.
                await self._make()
                await self._put(agent_id, version, data)
        except _AWAY as error:
            _log.warning("hot state not kept", agent_id=agent_id, version=version, error=repr(error))

    async def get(self, agent_id: str) -> tuple[int, bytes] | None:
        try:
            found = await self._last(agent_id)
        except _AWAY as error:
            _log.warning("hot state not read", agent_id=agent_id, error=repr(error))
            return None
        return None if found is None or found[1] == _NO_STATE else (found[1], found[2])

    async def delete(self, agent_id: str) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                await self._bus.api(f"STREAM.PURGE.{HOT_STREAM}", {"filter": hot_subject(agent_id)})
        except _AWAY as error:
            _log.warning("hot state not deleted", agent_id=agent_id, error=repr(error))

    async def _put(self, agent_id: str, version: int, data: bytes) -> None:
        payload = _VERSION.pack(version) + data
        while True:
            found = await self._last(agent_id)
            sequence, newest = (0, _NO_STATE) if found is None else found[:2]
            if newest >= version:
                return
            if await put(self._bus, hot_subject(agent_id), payload, after=sequence, timeout=_TIMEOUT_SECONDS):
                return

    async def _last(self, agent_id: str) -> tuple[int, int, bytes] | None:
        """Its stream sequence, version and state; what others have put there is none, and makes room for one."""
        found = await self._bus.stored(HOT_STREAM, last_on=hot_subject(agent_id), timeout=_TIMEOUT_SECONDS)
        if found is None:
            return None
        version = _VERSION.unpack_from(found.data)[0] if len(found.data) >= _VERSION.size else _NO_STATE
        return sequence_of(found), version, found.data[_VERSION.size :]


@asynccontextmanager
async def open_nats_hot_state(bus: Bus) -> AsyncIterator[NatsHotState]:
    """The bucket, which is made if need be. Raises StreamError."""
    hot = NatsHotState(bus)
    await hot.open()
    yield hot
