"""What a client reads from JetStream: streamed output, the log, live views and dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec
import pytest
import stamina
from nats.errors import Error as NatsError
from nats.js.errors import APIError

from l02.bus.commands.dead_letters import DeadLetter
from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import EVENTS_STREAM, VIEWS_BUCKET, ensure_streams
from l02.bus.embedded import EmbeddedNats
from l02.bus.wire.subjects import dead_subject, outcome_subject, stream_subject
from l02.client.client import Client, ExecutionResult
from l02.client.discovery import NodeUnreachable
from l02.domain.agent.state import Status
from l02.domain.agent.work.signals import SignalReceived
from l02.domain.errors import ErrorCode, Failure
from l02.projections.folds.agents import AgentView
from tests.cli.conftest import REQUESTED, SPECIFICATION, Append

T = TypeVar("T")
EXECUTION = "x1"


async def take(items: AsyncIterator[T], count: int) -> list[T]:
    async with asyncio.timeout(20):
        return [await anext(items) for _ in range(count)]


async def restart(server: EmbeddedNats, bus: Bus) -> None:
    """The server again, and what a node does then: a stream in memory is gone with its server."""
    await server.stop()
    await server.start()
    async for attempt in stamina.retry_context(on=(APIError, NatsError, TimeoutError), timeout=20, wait_max=0.1):
        with attempt:
            await bus.jetstream.stream_info(EVENTS_STREAM)
    await ensure_streams(bus)


async def emit(bus: Bus, *pieces: dict[str, Any]) -> None:
    for piece in pieces:
        await bus.jetstream.publish(stream_subject("a1", EXECUTION), msgspec.json.encode(piece))


def delta(n: int) -> dict[str, Any]:
    return {"n": n, "delta": f"<{n}>"}


def done(n: int) -> dict[str, Any]:
    return {"n": n, "done": True}


async def test_pieces_that_come_while_one_listens(bus: Bus, client: Client) -> None:
    tokens = client.tokens("a1", EXECUTION)
    first = asyncio.ensure_future(anext(tokens))
    await emit(bus, delta(0))
    assert await first == "<0>"
    await emit(bus, delta(1), done(2))
    assert [piece async for piece in tokens] == ["<1>"]


@pytest.mark.parametrize(
    "raw", [b"\xff", b"[]", b'{"n":"0"}', b'{"x":' + b"[" * 100_000], ids=["bytes", "list", "n", "deep"]
)
async def test_what_is_no_piece_is_passed_over(bus: Bus, client: Client, raw: bytes) -> None:
    await bus.jetstream.publish(stream_subject("a1", EXECUTION), raw)
    await emit(bus, delta(0), done(1))
    assert [piece async for piece in client.tokens("a1", EXECUTION)] == ["<0>"]


async def test_a_late_listener_begins_at_any_piece(bus: Bus, client: Client) -> None:
    await emit(bus, *(delta(n) for n in range(1200)), done(1200))
    assert [piece async for piece in client.tokens("a1", EXECUTION)] == [f"<{n}>" for n in range(1200)]
    assert [piece async for piece in client.tokens("a1", EXECUTION, 1198)] == ["<1198>", "<1199>"]
    assert [piece async for piece in client.tokens("a1", EXECUTION, 1200)] == []


async def test_an_execution_that_runs_again_streams_nothing_twice(bus: Bus, client: Client) -> None:
    await emit(bus, delta(0), delta(1), delta(0), delta(1), delta(2), done(3), done(3))
    assert [piece async for piece in client.tokens("a1", EXECUTION)] == ["<0>", "<1>", "<2>"]


async def test_a_gap_is_an_error(bus: Bus, client: Client) -> None:
    await emit(bus, delta(0), delta(2))
    tokens = client.tokens("a1", EXECUTION)
    assert await anext(tokens) == "<0>"
    with pytest.raises(Failure, match="pieces 1 to 1") as caught:
        await anext(tokens)
    assert caught.value.code is ErrorCode.STREAMING_ERROR


async def test_the_end_of_an_execution_that_never_said_done(bus: Bus, client: Client) -> None:
    await emit(bus, delta(0), delta(1))
    ended = asyncio.get_running_loop().create_future()
    tokens = client.tokens("a1", EXECUTION, ended=ended)
    assert await take(tokens, 1) == ["<0>"]
    ended.set_result(None)
    assert [piece async for piece in tokens] == ["<1>"]


async def test_the_end_of_an_execution_that_streamed_nothing(client: Client) -> None:
    ended = asyncio.get_running_loop().create_future()
    tokens = client.tokens("a1", EXECUTION, ended=ended)
    waiting = asyncio.ensure_future(anext(tokens, None))
    ended.set_result(None)
    assert await asyncio.wait_for(waiting, 20) is None


async def test_the_stream_is_followed_over_a_restart_of_the_server(
    bus: Bus, client: Client, fresh_nats: EmbeddedNats
) -> None:
    await emit(bus, delta(0))
    tokens = client.tokens("a1", EXECUTION)
    assert await take(tokens, 1) == ["<0>"]
    # The stream is in memory: the execution, which runs again, begins again.
    await restart(fresh_nats, bus)
    await emit(bus, delta(0), delta(1), done(2))
    assert [piece async for piece in tokens] == ["<1>"]


async def _all(items: AsyncIterator[T]) -> list[T]:
    return [item async for item in items]


LOST: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]], str]] = {
    "the first": ([], [delta(3)], ""),
    "one in the middle": ([delta(0), delta(1)], [delta(3), done(4)], "<0><1>"),
    "all but what nobody can read": ([delta(0)], [{"n": "x"}, {"n": -(2**70)}], "<0>"),
    "the end": ([delta(0), delta(1)], [], "<0><1>"),
}


@pytest.mark.parametrize("name", LOST)
async def test_who_streams_gets_the_result_also_if_pieces_are_lost(bus: Bus, client: Client, name: str) -> None:
    before, after, expected = LOST[name]
    streaming = client.stream("a1", 1, command_id=EXECUTION)
    await emit(bus, *before)
    text = "".join([str(await anext(streaming)) for _ in before])
    await emit(bus, *after)
    result = {"execution_id": EXECUTION, "output": {"whole": True}}
    outcome = {"command_id": EXECUTION, "ok": True, "subject": "agent/a1", "version": 4, "result": result}
    rest = asyncio.create_task(_all(streaming))
    await bus.jetstream.publish(outcome_subject(EXECUTION), msgspec.json.encode(outcome))
    assert (text, await rest) == (expected, [ExecutionResult(execution_id=EXECUTION, output={"whole": True})])


async def test_who_streams_is_told_if_the_work_failed_also_if_pieces_are_lost(bus: Bus, client: Client) -> None:
    await emit(bus, delta(2))
    error = {"code": "E2001", "name": "TOOL_EXECUTION_FAILED", "message": "no"}
    outcome = {"command_id": EXECUTION, "ok": False, "subject": "agent/a1", "version": 4, "error": error}
    await bus.jetstream.publish(outcome_subject(EXECUTION), msgspec.json.encode(outcome))
    with pytest.raises(Failure, match="E2001"):
        await anext(client.stream("a1", 1, command_id=EXECUTION))


async def test_the_log_by_agent_type_and_sequence(client: Client, append: Append) -> None:
    signal = SignalReceived(name="go", payload=1)
    await append("a1", REQUESTED, signal, signal)
    await append("a2", REQUESTED, signal)

    async def sequences(*arguments: Any) -> list[int]:
        return [recorded.sequence async for recorded in client.events(*arguments)]

    assert await sequences() == [1, 2, 3, 4, 5]
    assert await sequences("a1") == [1, 2, 3]
    assert await sequences("a2", "agent.signal.received") == [5]
    assert await sequences(None, "agent.signal.*") == [2, 3, 5]
    assert await sequences("a1", "agent.signal.*") == [2, 3]
    assert await sequences(None, None, 3) == [3, 4, 5]
    assert await sequences("a1", None, 3) == [3]
    assert await sequences(None, None, 6) == []
    assert await sequences("a3") == []


async def test_a_log_of_several_pages(client: Client, append: Append) -> None:
    await append("a1", *[SignalReceived(name="go", payload=n) for n in range(2500)])
    assert [recorded.sequence async for recorded in client.events("a1")] == list(range(1, 2501))


async def test_the_log_by_time(client: Client, append: Append) -> None:
    await append("a1", REQUESTED)
    (first,) = [recorded async for recorded in client.events()]
    await append("a1", SignalReceived(name="go", payload=None))
    for moment, wanted in [
        (first.time - timedelta(hours=1), [1, 2]),
        (datetime.now(UTC) + timedelta(hours=1), []),
        (datetime(1970, 1, 1, tzinfo=UTC), [1, 2]),
    ]:
        assert [recorded.sequence async for recorded in client.events(since=moment)] == wanted


async def test_following_the_log(client: Client, append: Append) -> None:
    signal = SignalReceived(name="go", payload=None)
    await append("a1", REQUESTED, signal)
    events = client.events(type="agent.signal.*", follow=True)
    assert [recorded.sequence for recorded in await take(events, 1)] == [2]
    await append("a2", REQUESTED, signal)
    assert [recorded.sequence for recorded in await take(events, 1)] == [4]
    await events.aclose()
    events = client.events("a1", since=datetime.now(UTC), follow=True)
    later = asyncio.ensure_future(anext(events))
    await append("a1", signal)
    assert (await asyncio.wait_for(later, 20)).sequence == 5
    await events.aclose()


@pytest.mark.parametrize(
    ("arguments", "path"), [(("a b",), "id"), ((None, "agent.born"), "type"), ((None, "agent.*.*"), "type")]
)
async def test_a_log_that_cannot_be(client: Client, arguments: tuple[Any, ...], path: str) -> None:
    with pytest.raises(Failure) as caught:
        await anext(client.events(*arguments))
    assert (caught.value.code, caught.value.path) == (ErrorCode.COMMAND_INVALID, path)


def view(agent_id: str, sequence: int) -> AgentView:
    now = datetime.now(UTC)
    return AgentView(
        id=agent_id,
        name="historian",
        state=Status.RUNNING,
        spec=SPECIFICATION,
        fleet_id=None,
        node_id="n1",
        trust_level="standard",
        resource_limits=SPECIFICATION.resource_limits,
        incarnation=1,
        created_at=now,
        updated_at=now,
        version=sequence,
        sequence=sequence,
    )


async def test_watching_begins_with_what_is(bus: Bus, client: Client, fresh_nats: EmbeddedNats) -> None:
    bucket = await bus.jetstream.key_value(VIEWS_BUCKET)

    async def put(agent_id: str, sequence: int) -> None:
        await bucket.put(f"agent.{agent_id}", msgspec.json.encode(view(agent_id, sequence)))

    await put("a1", 1)
    await put("a1", 2)
    await put("a2", 3)
    everyone, one = client.watch(), client.watch("a2")
    assert [(seen.id, seen.sequence) for seen in await take(everyone, 2)] == [("a1", 2), ("a2", 3)]
    assert [(seen.id, seen.sequence) for seen in await take(one, 1)] == [("a2", 3)]
    await bucket.delete("agent.a2")
    await restart(fresh_nats, bus)
    await put("a2", 4)
    assert [(seen.id, seen.sequence) for seen in await take(everyone, 1)] == [("a2", 4)]
    assert [(seen.id, seen.sequence) for seen in await take(one, 1)] == [("a2", 4)]
    await everyone.aclose()
    await one.aclose()


async def test_dead_letters(bus: Bus, client: Client) -> None:
    letter = DeadLetter(
        consumer="commands",
        subject="l02.cmd.agent.a1.resume",
        headers={},
        body=b"{}",
        code="E2117",
        reason="it failed",
        deliveries=5,
        time=datetime.now(UTC),
    )
    await bus.jetstream.publish(dead_subject("commands"), msgspec.json.encode(letter))
    assert [found.body async for found in client.dead_letters()] == [b"{}"]
    assert (await client.retry_dead_letter(1)).subject == letter.subject
    assert [found async for found in client.dead_letters()] == []
    with pytest.raises(Failure) as caught:
        await client.dead_letter(1)
    assert caught.value.code is ErrorCode.AGGREGATE_NOT_FOUND


async def test_a_server_that_no_node_has_used(fresh_nats: EmbeddedNats, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("l02.client.asking._STREAMS_SECONDS", 0.5)
    async with Client.connect(fresh_nats.url) as client:
        for reading in (client.events(), client.events(follow=True), client.watch(), client.dead_letters()):
            with pytest.raises(NodeUnreachable, match="l02 up"):
                await anext(reading)
        with pytest.raises(NodeUnreachable, match="l02 up"):
            await client.get("a1")
        with pytest.raises(NodeUnreachable, match="l02 up"):
            await client.signal("a1", "go")
