"""One connection to NATS per process, which outlives the server's restarts and tells who wants to know of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import nats
import structlog
from nats.aio.client import Client
from nats.errors import NoServersError
from nats.js import JetStreamContext

__all__ = ["Bus", "BusUnreachable", "connect"]

_log = structlog.get_logger()


class BusUnreachable(Exception):
    """No NATS server answers at the address given."""


class Bus:
    """The connection, and a way to be called back after each reconnect."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.jetstream: JetStreamContext = client.jetstream(timeout=10)
        self._listeners: set[Callable[[], None]] = set()

    @asynccontextmanager
    async def on_reconnect(self, listener: Callable[[], None]) -> AsyncIterator[None]:
        """Call `listener` after each reconnect, as long as the context lasts."""
        self._listeners.add(listener)
        try:
            yield
        finally:
            self._listeners.discard(listener)

    async def _reconnected(self) -> None:
        _log.info("nats reconnected")
        for listener in tuple(self._listeners):
            listener()


@asynccontextmanager
async def connect(url: str, *, name: str, timeout: float = 5.0) -> AsyncIterator[Bus]:
    """Connect, retrying for `timeout` seconds; BusUnreachable says so in one line.

    Once connected, it reconnects for ever: a server that is away is waited for, its streams keep what was acknowledged.
    """
    holder: list[Bus] = []

    async def reconnected() -> None:
        await holder[0]._reconnected()

    async def disconnected() -> None:
        if holder and not holder[0].client.is_closed:
            _log.warning("nats disconnected; reconnecting")

    async def failed(error: Exception) -> None:
        _log.debug("nats client error", error=repr(error))

    try:
        async with asyncio.timeout(timeout):
            client = await nats.connect(
                url,
                name=name,
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.2,
                ping_interval=10,
                max_outstanding_pings=2,
                pending_size=16 * 1024 * 1024,
                reconnected_cb=reconnected,
                disconnected_cb=disconnected,
                error_cb=failed,
            )
    except (NoServersError, OSError, TimeoutError) as error:
        raise BusUnreachable(
            f"no NATS server answers at {_without_credentials(url)}; "
            "start one, or unset L02_NATS_URL for an embedded one"
        ) from error
    bus = Bus(client)
    holder.append(bus)
    try:
        yield bus
    finally:
        await client.close()


def _without_credentials(url: str) -> str:
    scheme, separator, rest = url.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
