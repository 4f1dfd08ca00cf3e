"""Pull consumption that goes on for ever: through restarts of the server, lost requests and deleted consumers.

nats-py fetches batch by batch: between two fetches nothing is under way, and a fetch that meets a restart of the
server may hang or raise. Here requests are kept open ahead of need; silence longer than the server's heartbeat, a
reconnect or an error of the consumer starts the conversation anew.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache, partial
from typing import Any, NamedTuple

import msgspec
import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from l02.bus.connection.bus import Bus
from l02.bus.connection.listening import listen

_log = structlog.get_logger()
_HEARTBEAT_SECONDS = 2.0
_EXPIRES_SECONDS = 30.0
_RETRY_SECONDS = 0.2
_NANO = 1_000_000_000
_NOT_FOUND = 10014
_SHORT_REPLY_TOKENS = 9


class Delivery(NamedTuple):
    """Which message of a stream this is, and which delivery of its consumer."""

    stream_sequence: int
    consumer: str
    consumer_sequence: int


class ConsumerError(Exception):
    """JetStream refused a consumer; the message is the server's."""


class Pull:
    """Messages of one consumer, in order, as they come."""

    def __init__(self, bus: Bus, stream: str, config: Callable[[], Awaitable[dict[str, Any]]], window: int) -> None:
        self._bus = bus
        self._stream = stream
        self._config = config
        self._window = window
        self._inbox = bus.client.new_inbox()
        self._generation = 0
        self._consumer: str | None = None
        self._is_durable = False
        self._subscription: Subscription | None = None
        self._messages: deque[Msg] = deque()
        self._requested = 0
        self._arrived = asyncio.Event()
        self._renew = True
        self._last_heard = 0.0

    async def next_batch(self, limit: int) -> list[Msg]:
        """Wait for at least one message; give all that are there, `limit` at most. Cancelled, it has taken none."""
        while True:
            self._arrived.clear()
            try:
                if self._renew:
                    self._renew = False
                    await self._begin()
                await self._ask_for_more()
            except (NatsError, TimeoutError) as error:
                if self._bus.client.is_closed:
                    raise
                _log.info("waiting for JetStream", stream=self._stream, error=repr(error))
                self.renew()
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            except BaseException:
                self.renew()
                raise
            if self._messages:
                return [self._messages.popleft() for _ in range(min(limit, len(self._messages)))]
            await self._wait_for_arrival()

    async def _wait_for_arrival(self) -> None:
        try:
            async with asyncio.timeout(_HEARTBEAT_SECONDS):
                await self._arrived.wait()
        except TimeoutError:
            if self._now() - self._last_heard > 2.5 * _HEARTBEAT_SECONDS:
                _log.info("consumer is silent; asking anew", stream=self._stream, consumer=self._consumer)
                self.renew()

    def renew(self) -> None:
        """Start anew: what was asked for is forgotten; what had been delivered unacknowledged comes again."""
        self._renew = True
        self._arrived.set()

    async def close(self) -> None:
        """Stop receiving. A durable consumer stays on the server; another need not wait there for its end."""
        await self._unsubscribe()
        self._bus.tally.consumers.pop(self._consumer or "", None)
        if self._consumer is not None and not self._is_durable and self._bus.client.is_connected:
            await self._bus.client.publish(f"$JS.API.CONSUMER.DELETE.{self._stream}.{self._consumer}")

    def _now(self) -> float:
        return time.monotonic()

    async def _unsubscribe(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None and not self._bus.client.is_closed:
            await subscription.unsubscribe()

    async def _begin(self) -> None:
        config = await self._config()
        self._is_durable = "durable_name" in config
        name = await create_consumer(self._bus, self._stream, config)
        if name != self._consumer:
            # What the old one delivered, the new one delivers again.
            self._messages.clear()
            self._bus.tally.consumers.pop(self._consumer or "", None)
            self._consumer = name
        if self._is_durable:
            self._bus.tally.consumers[name] = self._stream
        await self._unsubscribe()
        self._generation += 1
        self._requested = 0
        self._subscription = await listen(
            self._bus.client, f"{self._inbox}.{self._generation}", partial(self._receive, self._generation)
        )

    async def _ask_for_more(self) -> None:
        wanted = self._window - self._requested - len(self._messages)
        if wanted < max(1, self._window // 2):
            return
        if self._requested == 0:
            self._last_heard = self._now()
        self._requested += wanted
        request = {
            "batch": wanted,
            "expires": int(_EXPIRES_SECONDS * _NANO),
            "idle_heartbeat": int(_HEARTBEAT_SECONDS * _NANO),
        }
        await self._bus.client.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}",
            msgspec.json.encode(request),
            reply=f"{self._inbox}.{self._generation}",
        )

    def _receive(self, generation: int, message: Msg) -> None:
        if generation != self._generation:
            return
        self._last_heard = self._now()
        status = message.headers.get("Status") if not message.reply and message.headers else None
        if status is None:
            self._requested -= 1
            self._messages.append(message)
            if self._is_durable and times_delivered(message) > 1:
                self._bus.tally.redeliveries[delivery_of(message).consumer] += 1
        elif status != "100":
            self._request_ended(generation, status, message.headers or {})
        self._arrived.set()

    def _request_ended(self, generation: int, status: str, headers: dict[str, str]) -> None:
        undelivered = headers.get("Nats-Pending-Messages")
        if undelivered is not None:
            self._requested -= int(undelivered)
        if status not in ("404", "408"):
            _log.info("consumer request ended", status=status, description=headers.get("Description"))
            asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._renew_if, generation)

    def _renew_if(self, generation: int) -> None:
        if generation == self._generation:
            self.renew()


@asynccontextmanager
async def pull(
    bus: Bus, stream: str, config: Callable[[], Awaitable[dict[str, Any]]], *, window: int = 512
) -> AsyncIterator[Pull]:
    """Consume `stream` with the consumer that `config()` describes; it is asked again at each new start.

    `window` bounds how many messages wait in this process.
    """

    consumer = Pull(bus, stream, config, window)
    async with bus.on_reconnect(consumer.renew):
        try:
            yield consumer
        finally:
            await consumer.close()


async def create_consumer(bus: Bus, stream: str, config: dict[str, Any]) -> str:
    """Make the consumer, or find that it is there as described; its name."""
    name = config.get("durable_name") or config.get("name")
    operation = f"CONSUMER.CREATE.{stream}.{name}" if name else f"CONSUMER.CREATE.{stream}"
    answer = await bus.api(operation, {"stream_name": stream, "config": config})
    if error := answer.get("error"):
        raise ConsumerError(f"consumer {name} on {stream}: {error.get('description')}")
    return str(answer["name"])


async def consumer_info(bus: Bus, stream: str, name: str) -> dict[str, Any] | None:
    """What the server says of a consumer; None if there is none. Raises ConsumerError and NATS' errors."""
    info = await bus.api(f"CONSUMER.INFO.{stream}.{name}", {})
    if error := info.get("error"):
        if error.get("err_code") == _NOT_FOUND:
            return None
        raise ConsumerError(f"consumer {name} on {stream}: {error.get('description')}")
    return info


def delivery_of(message: Msg) -> Delivery:
    """What a consumer's message says in its reply subject; nats-py's own reading of it costs five times as much."""
    return _delivery(message.reply)


def times_delivered(message: Msg) -> int:
    """How often a consumer's message has been delivered, this time included."""
    return int(_tokens(message.reply)[2])


def stored_at(message: Msg) -> int:
    """When a consumer's message was stored: nanoseconds since 1970, by the server's clock."""
    return int(_tokens(message.reply)[5])


@lru_cache(maxsize=4096)
def _delivery(reply: str) -> Delivery:
    """Each message is asked for it by everybody on its way through a node."""
    tokens = _tokens(reply)
    return Delivery(int(tokens[3]), tokens[1], int(tokens[4]))


def _tokens(reply: str) -> list[str]:
    # $JS.ACK[.<domain>.<account>].<stream>.<consumer>.<times>.<stream sequence>.<consumer sequence>.<time>.<pending>
    tokens = reply.split(".")
    return tokens[2:] if len(tokens) == _SHORT_REPLY_TOKENS else tokens[4:]


def forward_reading(after: int, filters: Sequence[str]) -> dict[str, Any]:
    """The configuration of a consumer for one reader, who keeps its own position: it begins behind sequence `after`."""
    return {
        "ack_policy": "none",
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": after + 1,
        "filter_subjects": list(filters),
        "inactive_threshold": 60_000_000_000,
        "mem_storage": True,
        "num_replicas": 1,
    }
