"""What a server sends is taken apart as nats-py would, wherever the network has cut it."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.errors import BadSubjectError, MaxPayloadError, ProtocolError
from nats.protocol import parser as of_nats

from l02.bus.connection.bus import Bus
from l02.bus.connection.client import SwiftClient
from l02.bus.connection.listening import listen
from l02.bus.connection.parser import Parser

TOKENS = st.text("abc.-_$*>\x0b\xe9", min_size=1, max_size=12).map(str.encode)
BODIES = st.binary(max_size=40) | st.sampled_from([b"", b"\r\n", b"MSG a 1 1\r\nx\r\n", b"PING\r\n", b"x" * 3_000])


@st.composite
def sent(draw: st.DrawFn) -> bytes:
    """A message of a server, or a ping."""
    if draw(st.integers(0, 5)) == 0:
        return draw(st.sampled_from([b"PING\r\n", b"PONG\r\n", b"+OK\r\n"]))
    subject, sid, reply, body = draw(TOKENS), draw(st.integers(1, 99)), draw(st.none() | TOKENS), draw(BODIES)
    addressed = b" ".join([subject, str(sid).encode(), *([reply] if reply else [])])
    if draw(st.booleans()):
        return b"MSG %b %d\r\n%b\r\n" % (addressed, len(body), body)
    headers = b"NATS/1.0" + draw(st.sampled_from([b"\r\nA: b\r\n\r\n", b" 503\r\n\r\n", b"\r\n\r\n"]))
    return b"HMSG %b %d %d\r\n%b%b\r\n" % (addressed, len(headers), len(headers) + len(body), headers, body)


class _Told(SwiftClient):
    """Notes what the parser tells it."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Any] = []

    def receive(self, *message: Any) -> bool:
        if message[0] % 2:  # for the others nats-py is asked
            self.told.append(message)
        return bool(message[0] % 2)

    async def _process_msg(self, *message: Any) -> None:
        self.told.append(message)

    async def _process_ping(self) -> None:
        self.told.append("ping")

    async def _process_pong(self) -> None:
        self.told.append("pong")


async def _told(parser: type[of_nats.Parser], pieces: list[bytes]) -> list[Any]:
    client = _Told()
    reading = parser(client)
    for piece in pieces:
        await reading.parse(piece)
    assert not reading.buf
    return client.told


@given(st.lists(sent(), max_size=8).map(b"".join), st.lists(st.integers(0, 4_000), max_size=8))
def test_it_is_taken_apart_alike_wherever_it_is_cut(raw: bytes, cuts: list[int]) -> None:
    places = sorted({0, *(cut % (len(raw) + 1) for cut in cuts), len(raw)})
    pieces = [raw[begin:end] for begin, end in pairwise(places)]
    whole = asyncio.run(_told(Parser, [raw]))
    assert asyncio.run(_told(Parser, pieces)) == whole
    if b"\x0b" not in raw:  # which nats-py takes for the end of a subject
        assert whole == asyncio.run(_told(of_nats.Parser, [raw]))


@given(st.binary(min_size=1, max_size=30))
def test_what_is_no_message_ends_the_reading_and_nothing_else(raw: bytes) -> None:
    parser = Parser(_Told())
    try:
        asyncio.run(parser.parse(b"HMSG " + raw + b"\r\n"))
    except ProtocolError:
        return
    assert parser.buf or parser.nc.told  # it waits for the rest, or it was a message


async def test_after_a_reset_what_had_begun_is_forgotten() -> None:
    client = _Told()
    parser = Parser(client)
    await parser.parse(b"MSG a 1 100\r\nbegun")
    parser.reset()
    await parser.parse(b"MSG b 1 1\r\nx\r\n")
    assert client.told == [(1, b"b", b"", b"x", None)]


async def test_what_cannot_be_published_is_refused_and_the_connection_goes_on(bus: Bus) -> None:
    heard: asyncio.Queue[Any] = asyncio.Queue()
    await listen(bus.client, "x.>", heard.put_nowait)
    for subject in ("", "x.a b", "x.a\r\nPUB x.b 0\r\n\r\n", "x.\t"):
        with pytest.raises(BadSubjectError):
            await bus.client.publish(subject, b"")
        if subject:
            with pytest.raises(BadSubjectError):
                await bus.client.publish("x.y", b"", reply=subject, headers={"A": "b"})
    with pytest.raises(MaxPayloadError):
        await bus.client.publish("x.y", bytes(bus.client.max_payload + 1))
    large = bytes(bus.client.max_payload - 100)
    await bus.client.publish("x.\x0by", large, headers={"A": "b"})
    async with asyncio.timeout(20):
        message = await heard.get()
    assert (message.subject, message.data, dict(message.headers)) == ("x.\x0by", large, {"A": "b"})
