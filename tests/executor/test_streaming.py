"""What was streamed goes on with the next number, whatever a crash has left of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from l02.bus.connection.bus import Bus, connect
from l02.bus.connection.streams import TOKENS_STREAM, ensure_streams
from l02.bus.embedded import EmbeddedNats
from l02.bus.wire.subjects import stream_subject
from l02.domain.agent.execution import JournalEntry, Streamed
from l02.domain.aggregates import AGGREGATES
from l02.handlers.executor.streaming import TokenStream

_SUBJECT = stream_subject("a1", "x1")


@pytest_asyncio.fixture
async def bus(fresh_nats: EmbeddedNats) -> AsyncIterator[Bus]:
    async with connect(fresh_nats.url, name="test", aggregates=AGGREGATES) as connected:
        await ensure_streams(connected)
        yield connected


def stream(bus: Bus, *recorded: Streamed, has_run: bool = True) -> TokenStream:
    journal = [
        JournalEntry(call=call, kind="model", request={}, ok=True, result={}, streamed=item)
        for call, item in enumerate(recorded, start=1)
    ]
    return TokenStream(bus, "a1", "x1", enabled=True, has_run=has_run, journal=journal)


async def heard(bus: Bus) -> list[dict[str, Any]]:
    """All that was said so far: what is acknowledged behind it is stored behind it."""
    last = (await bus.jetstream.publish(stream_subject("fence", "x"), b"")).seq
    messages = [await bus.jetstream.get_msg(TOKENS_STREAM, seq=seq) for seq in range(1, last)]
    return [msgspec.json.decode(message.data or b"") for message in messages if message.subject == _SUBJECT]


async def say(tokens: TokenStream, *texts: str) -> None:
    """By a process of the agent's that begins anew."""
    tokens.begin_again()
    for n, text in enumerate(texts):
        await tokens.emit(n, text)


async def test_an_answer_that_is_on_record_stands(bus: Bus) -> None:
    first = stream(bus, has_run=False)
    await say(first, "a")
    answer = first.answering()
    assert answer is not None
    await answer.say("b")
    await answer.say("c")
    streamed = answer.finish()
    assert isinstance(streamed, Streamed)
    assert streamed == Streamed(n=1, pieces=2, own=1)
    await answer.release()
    assert len(await heard(bus)) == 3
    await say(stream(bus, streamed), "a", "d")
    assert await heard(bus) == [{"n": n, "delta": text} for n, text in enumerate("abcd")]


async def test_one_that_is_not_is_taken_back(bus: Bus) -> None:
    first = stream(bus, has_run=False)
    await say(first, "a")
    answer = first.answering()
    assert answer is not None
    await answer.say("b")
    await first.emit(1, "waits for its turn, in vain")
    assert len(await heard(bus)) == 2
    again = stream(bus)
    await say(again, "a", "c")
    await again.done()
    assert (await heard(bus))[2:] == [{"n": 2, "void_from": 1}, {"n": 3, "delta": "c"}, {"n": 4, "done": True}]
    await say(stream(bus), "a", "c")
    assert len(await heard(bus)) == 5


async def test_what_is_not_kept_any_more_is_known_by_the_record(bus: Bus) -> None:
    await say(stream(bus, Streamed(n=1, pieces=2, own=1), Streamed(n=5, pieces=3, own=3)), "a", "b", "c", "d")
    assert await heard(bus) == [{"n": 8, "delta": "d"}]


async def test_what_an_earlier_version_has_streamed_is_the_agents_own(bus: Bus) -> None:
    for n, text in enumerate("ab"):
        await bus.jetstream.publish(_SUBJECT, msgspec.json.encode({"n": n, "delta": text}))
    await say(stream(bus), "a", "b", "c")
    assert (await heard(bus))[2:] == [{"n": 2, "delta": "c"}]


@pytest.mark.parametrize("said", [b"", b"{}", b"\xff", b'{"n": "one"}', b'{"n": 1, "delta": 2'])
async def test_what_is_no_piece_stops_nobody(bus: Bus, said: bytes) -> None:
    await bus.jetstream.publish(_SUBJECT, said)
    tokens = stream(bus)
    await say(tokens, "a")
    await bus.client.flush()
    assert tokens.place == (1, 1)


async def test_much_own_text_waits_for_room(bus: Bus) -> None:
    """An agent that says more than can wait is slowed down until the model has spoken."""
    tokens = stream(bus, has_run=False)
    answer = tokens.answering()
    assert answer is not None
    await answer.say("model")
    saying = asyncio.create_task(say(tokens, *(["x" * 65_000] * 100)))
    await asyncio.wait({saying}, timeout=0.2)
    assert not saying.done()
    answer.finish()
    await answer.release()
    await saying
    assert [message["n"] for message in await heard(bus)] == [*range(101)]
