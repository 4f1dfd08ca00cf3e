"""Hot state in Redis (or what speaks like it), for those who have one and read it from elsewhere too.

Agent a1 is the hash `l02:hot:a1` with the fields `version` and `data`. Needs the extra `redis`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

_log = structlog.get_logger()
_TIMEOUT_SECONDS = 1.0
_KEPT_SECONDS = 86_400
_AWAY = (RedisError, OSError, TimeoutError)
# One step for Redis: nobody else writes between the look and the write.
_PUT_IF_NEWER = f"""
local newest = redis.call('HGET', KEYS[1], 'version')
if newest and tonumber(newest) >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'data', ARGV[2])
redis.call('EXPIRE', KEYS[1], {_KEPT_SECONDS})
return 1
"""


class RedisHotState:
    """A `HotState`."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._put_if_newer = client.register_script(_PUT_IF_NEWER)

    async def put(self, agent_id: str, version: int, data: bytes) -> None:
        try:
            await self._put_if_newer(keys=[_key(agent_id)], args=[version, data])
        except _AWAY as error:
            _log.warning("hot state not kept", agent_id=agent_id, version=version, error=repr(error))

    async def get(self, agent_id: str) -> tuple[int, bytes] | None:
        try:
            version, data = await self._client.hmget(_key(agent_id), "version", "data")
        except _AWAY as error:
            _log.warning("hot state not read", agent_id=agent_id, error=repr(error))
            return None
        return (int(version), data) if version is not None and version.isdigit() and isinstance(data, bytes) else None

    async def delete(self, agent_id: str) -> None:
        try:
            await self._client.delete(_key(agent_id))
        except _AWAY as error:
            _log.warning("hot state not deleted", agent_id=agent_id, error=repr(error))


@asynccontextmanager
async def open_redis_hot_state(url: str) -> AsyncIterator[RedisHotState]:
    """The Redis at `url` (redis://, rediss://, unix://); it is connected to when it is needed."""
    client = Redis.from_url(url, socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=_TIMEOUT_SECONDS)
    try:
        yield RedisHotState(client)
    finally:
        await client.aclose()


def _key(agent_id: str) -> str:
    return f"l02:hot:{agent_id}"
