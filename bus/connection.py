"""One connection to NATS per process, which outlives the server's restarts and tells who wants to know of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import msgspec
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import NoServersError
from nats.js import JetStreamContext

from bus.requests import PubAck, Requests
from bus.tally import Tally

__all__ = ["Bus", "BusUnreachable", "JetStreamNotReady", "connect"]

_log = structlog.get_logger()
_JETSTREAM_SECONDS = 10.0
_NOT_READY = 503


class BusUnreachable(Exception):
    """No NATS server answers at the address given."""


class JetStreamNotReady(NatsError):
    """JetStream is starting, or choosing a leader; it will answer soon."""


class Bus:
    """The connection, and a way to be called back when it is lost, and when it is there again."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.jetstream: JetStreamContext = client.jetstream(timeout=_JETSTREAM_SECONDS)
        self.requests = Requests(client)
        self.tally = Tally()
        self._on_reconnect: set[Callable[[], None]] = set()
        self._on_disconnect: set[Callable[[], None]] = {self.requests.connection_lost}

    async def publish(self, subject: str, payload: bytes, headers: Mapping[str, str] | None = None) -> PubAck:
        """Store a message in the stream of `subject`. Raises as `Requests.publish`."""
        return await self.requests.publish(subject, payload, timeout=_JETSTREAM_SECONDS, headers=headers)

    async def api(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """JetStream's answer to a request to its API; an error is in it, but JetStreamNotReady is raised."""
        reply = await self.requests.request(
            f"$JS.API.{operation}", msgspec.json.encode(request), timeout=_JETSTREAM_SECONDS
        )
        answer = msgspec.json.decode(reply.data, type=dict[str, Any])
        if answer.get("error", {}).get("code") == _NOT_READY:
            raise JetStreamNotReady(f"{operation}: {answer['error'].get('description')}")
        return answer

    async def stored(
        self, stream: str, *, sequence: int = 0, last_on: str = "", timeout: float = _JETSTREAM_SECONDS
    ) -> Msg | None:
        """The message of a stream with a sequence, or the last on a subject; None if there is none."""
        wanted = {"seq": sequence} if sequence else {"last_by_subj": last_on}
        reply = await self.requests.request(
            f"$JS.API.DIRECT.GET.{stream}", msgspec.json.encode(wanted), timeout=timeout
        )
        headers = reply.headers or {}
        if "Nats-Sequence" in headers:
            return reply
        if headers.get("Status") == "404":
            return None
        raise NatsError(f"reading {wanted} of {stream}: {headers.get('Status')} {headers.get('Description')}")

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


@contextmanager
def _member(listeners: set[Callable[[], None]], listener: Callable[[], None]) -> Iterator[None]:
    listeners.add(listener)
    try:
        yield
    finally:
        listeners.discard(listener)


class _Client(Client):
    """nats-py stops reading for good at a message whose headers or subject it cannot decode, and anyone may send one.

    Its reading of headers, letter by letter, is also the half of what receiving an event costs.
    """

    async def _process_headers(self, headers: bytes) -> dict[str, str] | None:
        try:
            return await super()._process_headers(headers)
        except (IndexError, UnicodeDecodeError) as error:
            _log.warning("a message has unreadable headers; they are left out", error=repr(error))
            return None

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        headers = {}
        for line in raw.decode(errors="replace").split("\r\n"):
            name, separator, value = line.partition(":")
            if separator:
                headers[name.strip()] = value.strip()
        return headers

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Msg:
        return self.msg_class(
            subject=subject.decode(errors="replace"),
            reply=reply.decode(errors="replace"),
            data=data,
            headers=headers,
            _client=self,
            _sid=sid,
        )


@asynccontextmanager
async def connect(url: str, *, name: str, timeout: float = 5.0) -> AsyncIterator[Bus]:
    """Connect, retrying for `timeout` seconds; BusUnreachable says so in one line.

    Once connected, it reconnects for ever: a server that is away is waited for, its streams keep what was acknowledged.
    """
    client = _Client()
    bus = Bus(client)

    async def failed(error: Exception) -> None:
        _log.debug("nats client error", error=repr(error))

    try:
        async with asyncio.timeout(timeout):
            await client.connect(
                url,
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
        await client.close()
        raise BusUnreachable(
            f"no NATS server answers at {_without_credentials(url)}; "
            "start one, or unset L02_NATS_URL for an embedded one"
        ) from error
    try:
        yield bus
    finally:
        # nats-py flushes what is left into a connection that may be gone; uvloop says so with a RuntimeError.
        with suppress(OSError, RuntimeError):
            await client.close()


def _without_credentials(url: str) -> str:
    scheme, separator, rest = url.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
