"""One connection to NATS per process, which outlives the server's restarts and tells who wants to know of them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import msgspec
import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import NoServersError
from nats.js import JetStreamContext

from l02.bus.background.cancelling import end
from l02.bus.connection.client import SwiftClient, after_seconds
from l02.bus.connection.requests import PubAck, Requests
from l02.bus.connection.tally import Tally
from l02.bus.wire.codec import EventDecoder
from l02.bus.wire.incoming import Aggregates

_log = structlog.get_logger()
_JETSTREAM_SECONDS = 10.0
API_SECONDS = 20.0
_API_RETRY_SECONDS = 0.1
# How often it is asked again soon, as a leader would answer, before a slow answer is waited for.
_SOON_SECONDS, _SOON_TIMES = 1.0, 10
_NOT_READY = 503


class BusUnreachable(Exception):
    """No NATS server answers at the address given."""


class JetStreamNotReady(NatsError):
    """JetStream is starting, or choosing a leader; it will answer soon."""


class Bus:
    """The connection, and a way to be called back when it is lost, and when it is there again.

    `aggregates` are those that this process knows, and `events` reads theirs.
    """

    def __init__(self, client: SwiftClient, aggregates: Aggregates) -> None:
        self.client = client
        self.aggregates = aggregates
        self.events = EventDecoder(aggregates.values())
        self.jetstream: JetStreamContext = client.jetstream(timeout=_JETSTREAM_SECONDS)
        self.requests = Requests(client)
        self.tally = Tally()
        self.claimed: dict[str, int] = {}
        """The newest command ids that were claimed here, with the stream sequence of their command."""
        self.shared: dict[object, Any] = {}
        """What those who use the connection have in common, made by the first of them."""
        self.on_close: list[Callable[[], None]] = []
        """What is called before it is closed."""
        self._on_reconnect: set[Callable[[], None]] = set()
        self._on_disconnect: set[Callable[[], None]] = {self.requests.connection_lost}

    async def publish(self, subject: str, payload: bytes, headers: Mapping[str, str] | None = None) -> PubAck:
        """Store a message in the stream of `subject`. Raises as `Requests.publish`."""
        return await self.requests.publish(subject, payload, timeout=_JETSTREAM_SECONDS, headers=headers)

    async def api(
        self, operation: str, request: Mapping[str, Any], *, within: float | None = API_SECONDS
    ) -> dict[str, Any]:
        """JetStream's answer to a request to its API; an error is in it.

        A stream without a leader does not answer, nor does a server that starts: it is asked again, so `request` must
        do no harm when it is carried out twice. After `within` seconds (None: never) what was the matter last is
        raised: JetStreamNotReady, NoRespondersError or TimeoutError.
        """
        loop = asyncio.get_running_loop()
        deadline = math.inf if within is None else loop.time() + within
        payload = msgspec.json.encode(request)
        asked = 0
        while True:
            patience = _SOON_SECONDS if asked < _SOON_TIMES else _JETSTREAM_SECONDS
            try:
                return await self._ask_api(operation, payload, max(0.0, min(patience, deadline - loop.time())))
            except (NatsError, TimeoutError):
                if self.client.is_closed or loop.time() + _API_RETRY_SECONDS >= deadline:
                    raise
            asked += 1
            await asyncio.sleep(_API_RETRY_SECONDS)

    async def _ask_api(self, operation: str, payload: bytes, timeout: float) -> dict[str, Any]:
        reply = await self.requests.request(f"$JS.API.{operation}", payload, timeout=timeout)
        answer = msgspec.json.decode(reply.data, type=dict[str, Any])
        if answer.get("error", {}).get("code") == _NOT_READY:
            raise JetStreamNotReady(f"{operation}: {answer['error'].get('description')}")
        return answer

    async def stored(
        self,
        stream: str,
        *,
        sequence: int = 0,
        last_on: str | None = None,
        next_on: str | None = None,
        timeout: float = _JETSTREAM_SECONDS,
    ) -> Msg | None:
        """The message that is `wanted` of a stream; None if there is none.

        Any copy of the stream answers, and one that lags does not know the newest.
        """
        request = wanted(sequence=sequence, last_on=last_on, next_on=next_on)
        reply = await self.requests.request(direct_get(stream), msgspec.json.encode(request), timeout=timeout)
        headers = reply.headers or {}
        if "Nats-Sequence" in headers:
            return reply
        if headers.get("Status") == "404":
            return None
        raise NatsError(f"reading {request} of {stream}: {headers.get('Status')} {headers.get('Description')}")

    @asynccontextmanager
    async def on_reconnect(self, listener: Callable[[], None]) -> AsyncIterator[None]:
        """Call `listener` after each reconnect, as long as the context lasts."""
        with _member(self._on_reconnect, listener):
            yield

    @asynccontextmanager
    async def on_disconnect(self, listener: Callable[[], None]) -> AsyncIterator[None]:
        """Call `listener` each time the connection is lost, as long as the context lasts."""
        with _member(self._on_disconnect, listener):
            yield

    async def _reconnected(self) -> None:
        _log.info("nats reconnected")
        for listener in tuple(self._on_reconnect):
            listener()

    async def _disconnected(self) -> None:
        if not self.client.is_closed:
            _log.warning("nats disconnected; reconnecting")
        for listener in tuple(self._on_disconnect):
            listener()


def wanted(*, sequence: int = 0, last_on: str | None = None, next_on: str | None = None) -> dict[str, int | str]:
    """What a stream is asked for: the last message on a subject, the one with a sequence, or the next from there on."""
    if last_on is not None:
        return {"last_by_subj": last_on}
    return {"seq": sequence} if next_on is None else {"seq": sequence, "next_by_subj": next_on}


def direct_get(stream: str) -> str:
    """Where any copy of a stream is asked for messages, one or many."""
    return f"$JS.API.DIRECT.GET.{stream}"


@contextmanager
def _member(listeners: set[Callable[[], None]], listener: Callable[[], None]) -> Iterator[None]:
    listeners.add(listener)
    try:
        yield
    finally:
        listeners.discard(listener)


@asynccontextmanager
async def connect(url: str, *, name: str, aggregates: Aggregates, timeout: float = 5.0) -> AsyncIterator[Bus]:
    """Connect, retrying for `timeout` seconds; BusUnreachable says so in one line.

    `url` may name several servers of one cluster, with commas between; while one is away another is used. Once
    connected, it reconnects for ever: a server that is away is waited for, its streams keep what was acknowledged.
    """
    client = SwiftClient()
    bus = Bus(client, aggregates)

    async def failed(error: Exception) -> None:
        _log.debug("nats client error", error=repr(error))

    try:
        async with asyncio.timeout(timeout):
            await client.connect(
                url.split(","),
                name=name,
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.2,  # type: ignore[arg-type]
                ping_interval=10,
                max_outstanding_pings=2,
                pending_size=16 * 1024 * 1024,
                reconnected_cb=bus._reconnected,
                disconnected_cb=bus._disconnected,
                error_cb=failed,
            )
            await bus.requests.start()
    except (NoServersError, OSError, TimeoutError) as error:
        await _close(client)
        raise BusUnreachable(
            f"no NATS server answers at {_without_credentials(url)}; "
            "start one, or unset L02_NATS_URL for an embedded one"
        ) from error
    try:
        yield bus
    finally:
        for let_go in bus.on_close:
            let_go()
        await _close(client)


async def _close(client: SwiftClient) -> None:
    """Close for certain. nats-py cancels its reconnecting once, which Python 3.11 may lose; it would go on for ever."""
    # It flushes what is left into a connection that may be gone; uvloop says so with a RuntimeError.
    with suppress(OSError, RuntimeError), after_seconds(client.abort):
        await client.close()
    if client._reconnection_task is not None:
        await end(client._reconnection_task)


def _without_credentials(urls: str) -> str:
    parts = [(scheme, rest) for scheme, _, rest in (url.rpartition("://") for url in urls.split(","))]
    return ",".join(
        f"{scheme}://{rest.rpartition('@')[2]}" if scheme else rest.rpartition("@")[2] for scheme, rest in parts
    )
