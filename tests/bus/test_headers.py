"""What is read of a message late, or by ourselves, is what nats-py would have read."""

from __future__ import annotations

import asyncio
import re

from hypothesis import given
from hypothesis import strategies as st
from nats.aio.msg import Msg

from l02.bus.connection.bus import Bus
from l02.bus.connection.listening import listen
from l02.bus.jetstream.pull import delivery_of
from l02.bus.wire.headers import LazyHeaders, header_block, parse_header_lines

NAMES = st.text("abcXYZ-019", min_size=1, max_size=10)
VALUES = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=20).map(str.strip)


@given(st.dictionaries(NAMES, VALUES, max_size=6))
def test_what_was_sent_is_read(sent: dict[str, str]) -> None:
    raw = "".join(f"{name}: {value}\r\n" for name, value in sent.items()).encode()
    headers = LazyHeaders(raw + b"\r\n")
    assert dict(headers) == sent and len(headers) == len(sent) and bool(headers) == bool(sent)
    assert all(headers.get(name) == value and name in headers for name, value in sent.items())
    assert headers.get("Absent") is None and "Absent" not in headers


@given(st.dictionaries(st.text(max_size=5) | NAMES, st.text(max_size=9), max_size=4))
def test_what_is_written_at_once_is_what_was_to_be_sent(sent: dict[str, str]) -> None:
    try:
        block = header_block(sent)
    except UnicodeEncodeError:
        return
    if block is not None:
        assert block.startswith(b"NATS/1.0\r\n") and block.endswith(b"\r\n\r\n")
        assert parse_header_lines(block) == {name: value.strip() for name, value in sent.items()}
    plain = all(re.fullmatch("[A-Za-z0-9-]+", name) for name in sent)
    broken = any(set("\r\n") & set(value) for value in sent.values())
    assert (block is not None) == (plain and not broken)


async def test_a_line_break_in_a_value_makes_no_header(bus: Bus) -> None:
    received: asyncio.Queue[Msg] = asyncio.Queue()
    await listen(bus.client, "somewhere", received.put_nowait)
    await bus.client.publish("somewhere", b"1", headers={"A": "b\r\nNats-Rollup: all"})
    assert "Nats-Rollup" not in ((await received.get()).headers or {})


@given(st.binary(max_size=60))
def test_any_bytes_are_read_as_some_headers(raw: bytes) -> None:
    assert dict(LazyHeaders(raw)) == parse_header_lines(raw)


async def test_headers_come_over_the_wire(bus: Bus) -> None:
    received: asyncio.Queue[Msg] = asyncio.Queue()
    await listen(bus.client, "somewhere", received.put_nowait)
    await bus.client.publish("somewhere", b"1", headers={"A": "b: c", "Long": "x" * 5_000})
    await bus.client.publish("somewhere", b"2")
    first, second = await received.get(), await received.get()
    assert first.headers == {"A": "b: c", "Long": "x" * 5_000} and second.headers is None


async def test_a_receiver_that_fails_gets_the_next_message_all_the_same(bus: Bus) -> None:
    received: asyncio.Queue[bytes] = asyncio.Queue()

    def receive(message: Msg) -> None:
        if message.data == b"bad":
            raise ValueError(message.data)
        received.put_nowait(message.data)

    subscription = await listen(bus.client, "somewhere", receive)
    for data in (b"1", b"bad", b"2"):
        await bus.client.publish("somewhere", data)
    assert [await received.get(), await received.get()] == [b"1", b"2"]
    await subscription.unsubscribe()
    await bus.client.publish("somewhere", b"3")
    await bus.client.flush()
    assert received.empty()


@given(
    st.sampled_from(["$JS.ACK", "$JS.ACK._.ACCOUNT", "$JS.ACK.domain.ACCOUNT"]),
    st.integers(1, 2**63),
    st.integers(1, 2**63),
    st.sampled_from(["", ".random"]),
)
def test_a_delivery_is_what_nats_py_says_it_is(prefix: str, stream: int, consumer: int, end: str) -> None:
    end = end if prefix != "$JS.ACK" else ""
    reply = f"{prefix}.L02_EVENTS.reader.2.{stream}.{consumer}.1764086400000000000.5{end}"
    message = Msg(_client=None, reply=reply)  # type: ignore[arg-type]
    expected = message.metadata
    assert delivery_of(message) == (expected.sequence.stream, expected.consumer, expected.sequence.consumer)
