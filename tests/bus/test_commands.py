"""Commands from the stream: decided in order, once, and answered; a bad one stops nobody."""

from __future__ import annotations

import asyncio
import socket
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from msgspec import UNSET

from l02.bus.commands.dead_letters import DeadLetter, dead_letters
from l02.bus.commands.outcomes import Outcome
from l02.bus.commands.sender import send_command
from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import COMMANDS_STREAM
from l02.bus.embedded import EmbeddedNats
from l02.bus.log.event_store import EventStore
from l02.bus.log.repository import Repository
from l02.bus.wire.subjects import CommandAddress
from tests.bus.faults import kill
from tests.bus.toy import State, are_done, outcome, outcomes, payloads, processing, send, send_raw, toy_id, until


def code(said: Outcome) -> str | None:
    return None if said.error is UNSET else said.error.code


async def letters(bus: Bus) -> list[DeadLetter]:
    return [letter async for letter in dead_letters(bus)]


async def are_said(bus: Bus, command_id: str, expected: list[bool]) -> bool:
    return [said.ok for said in await outcomes(bus, command_id)] == expected


async def test_a_command_is_decided_and_answered(bus: Bus, repository: Repository[State]) -> None:
    async with processing(bus, repository) as processor:
        await send(bus, "a1", "c1", "hello")
        said = await outcome(bus, "c1")
        assert said == Outcome(command_id="c1", ok=True, subject="toy/a1", version=1, events=["toy.noted"], result={})
        await until(lambda: are_done(bus, processor))


async def test_commands_that_were_stored_while_nobody_was_there_keep_their_order(
    bus: Bus, repository: Repository[State], store: EventStore
) -> None:
    for number in range(300):
        await send(bus, f"a{number % 3}", f"c{number}", number)
    async with processing(bus, repository) as processor:
        await outcome(bus, "c299")
        await until(lambda: are_done(bus, processor))
    for lane in range(3):
        assert payloads(await store.load(toy_id(f"a{lane}"))) == list(range(lane, 300, 3))


async def test_a_slow_aggregate_holds_up_no_other(bus: Bus, repository: Repository[State]) -> None:
    async with processing(bus, repository):
        async with repository._exclusive("slow"):
            for number in range(50):
                await send(bus, "slow", f"s{number}", number)
            for number in range(50):
                await send(bus, f"a{number}", f"c{number}", number)
            for number in range(50):
                assert (await outcome(bus, f"c{number}")).ok
            assert await outcomes(bus, "s0") == []
        assert (await outcome(bus, "s49")).version == 50


async def test_refusals_are_answered_with_their_code(bus: Bus, repository: Repository[State]) -> None:
    async with processing(bus, repository):
        await send(bus, "a1", "c1", name="unless-opened")
        said = await outcome(bus, "c1")
        assert not said.ok and code(said) == "E2112" and said.subject == "toy/a1"
        body = msgspec.json.encode({"name": "add", "expected_version": 7})
        await send_raw(bus, "l02.cmd.toy.a1.note", body, {"Nats-Msg-Id": "c2"})
        assert code(await outcome(bus, "c2")) == "E2113"
    assert await letters(bus) == []


async def test_unreadable_commands_are_parked_and_answered_and_the_lane_goes_on(
    bus: Bus, repository: Repository[State], store: EventStore
) -> None:
    bad = {
        "c1": ("l02.cmd.toy.a1.note", b"not json", "E2110"),
        "c2": ("l02.cmd.toy.a1.dance", b"{}", "E2110"),
        "c3": ("l02.cmd.toy.a1.note", b'{"name":"add","pay":1}', "E2110"),
        "c4": ("l02.cmd.toy.a1.too.many", b"{}", "E2110"),
        "c5": ("l02.cmd.ghost.a1.signal", b"{}", "E2110"),
        "c6": ("l02.cmd.toy.a1.note", b"x" * (2 * 1024 * 1024), "E2115"),
        "c7": ("l02.cmd.toy.a1.note", b"[" * 100_000, "E2110"),
    }
    async with processing(bus, repository) as processor:
        for command_id, (subject, body, _) in bad.items():
            await send_raw(bus, subject, body, {"Nats-Msg-Id": command_id})
        await send_raw(bus, "l02.cmd.toy.a1.note", b"{}", {"Nats-Msg-Id": "no id.of ours"})
        await send(bus, "a1", "good", 1)
        assert (await outcome(bus, "good")).ok
        for command_id, (_, _, expected) in bad.items():
            said = await outcome(bus, command_id)
            assert not said.ok and code(said) == expected
        await until(lambda: are_done(bus, processor))
    parked = {letter.headers["Nats-Msg-Id"]: letter for letter in await letters(bus)}
    assert parked.keys() == bad.keys() | {"no id.of ours"}
    for command_id, (subject, body, expected) in bad.items():
        letter = parked[command_id]
        assert (letter.subject, letter.body, letter.code, letter.consumer) == (subject, body, expected, "commands")
    assert payloads(await store.load(toy_id("a1"))) == [1]


async def test_a_message_as_large_as_the_server_takes_blocks_no_lane(bus: Bus, repository: Repository[State]) -> None:
    async with processing(bus, repository):
        size = bus.client.max_payload - 200
        await send_raw(bus, "l02.cmd.toy.a1.note", b"x" * size, {"Nats-Msg-Id": "big"})
        assert code(await outcome(bus, "big")) == "E2115"
        [letter] = await letters(bus)
        assert letter.truncated and letter.body == b"x" * (64 * 1024)


async def test_bytes_that_no_client_would_send_stop_nobody(
    fresh_nats: EmbeddedNats, bus: Bus, repository: Repository[State]
) -> None:
    """Subjects that are not UTF-8 and headers that are none: nats-py by itself stops reading for good at these."""
    url = urlsplit(fresh_nats.url)
    assert url.hostname and url.port
    with socket.create_connection((url.hostname, url.port)) as raw:
        connect = {"verbose": False, "headers": True, "user": url.username, "pass": url.password}
        raw.sendall(b"CONNECT " + msgspec.json.encode(connect) + b"\r\n")
        raw.sendall(b"PUB l02.cmd.toy.\xff\xfe.note 2\r\n{}\r\n")
        for header in (
            b"ab\r\n",
            b"NATS/1.0\r\n\xff\xfe: \xff\r\nL02-Actor: \xff\r\n\r\n",
            b"NATS/1.0 \xff\xff \xff\r\n\r\n",
        ):
            sizes = b"%d %d" % (len(header), len(header) + 2)
            raw.sendall(b"HPUB l02.cmd.toy.a1.dance " + sizes + b"\r\n" + header + b"{}\r\n")
        raw.sendall(b"PING\r\n")
        received = b""
        while b"PONG" not in received:
            received += await asyncio.to_thread(raw.recv, 65536)
    stored = (await bus.jetstream.stream_info(COMMANDS_STREAM)).state.messages
    assert stored >= 3, received
    async with processing(bus, repository) as processor:
        await send(bus, "a1", "good", 1)
        assert (await outcome(bus, "good")).ok
        await until(lambda: are_done(bus, processor))
    assert len(await letters(bus)) == stored
    assert bus.client.stats["reconnects"] == 0


async def test_a_command_that_keeps_failing_is_parked_after_five_attempts_and_the_lane_goes_on(
    bus: Bus, repository: Repository[State], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("l02.bus.commands.processor._RETRY_SECONDS", 0.01)
    attempts = 0
    decide = repository.decide

    async def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal attempts
        attempts += 1
        return await decide(*arguments, **options)

    monkeypatch.setattr(repository, "decide", counted)
    async with processing(bus, repository) as processor:
        await send(bus, "a1", "c1", name="boom")
        said = await outcome(bus, "c1")
        assert not said.ok and code(said) == "E2117" and attempts == 5
        await send(bus, "a1", "c2", 1)
        assert (await outcome(bus, "c2")).ok
        await until(lambda: are_done(bus, processor))
        [letter] = await letters(bus)
        assert letter.code == "E2117" and "the decider has a fault" in letter.reason


async def test_a_repeated_command_is_answered_again_and_not_decided_again(
    bus: Bus, repository: Repository[State], store: EventStore
) -> None:
    address = CommandAddress(toy_id("a1"), "note")
    body = msgspec.json.encode({"name": "add", "payload": 1})
    async with processing(bus, repository) as processor:
        first = await send_command(bus, address, body, command_id="c1", headers={})
        await asyncio.sleep(0.2)  # the server's own window, in which it would not even store the second
        async with asyncio.timeout(2):
            second = await send_command(bus, address, body, command_id="c1", headers={})
        assert first == second and first.ok
        await until(lambda: are_done(bus, processor))
    assert await outcomes(bus, "c1") == [first]
    assert payloads(await store.load(toy_id("a1"))) == [1]


async def test_a_refused_command_may_be_tried_again_and_gets_the_new_answer(
    bus: Bus, repository: Repository[State]
) -> None:
    address = CommandAddress(toy_id("a1"), "note")
    body = msgspec.json.encode({"name": "unless-opened", "payload": 1})
    async with processing(bus, repository):
        assert code(await send_command(bus, address, body, command_id="c1", headers={})) == "E2112"
        await asyncio.sleep(0.2)  # the server's own window
        assert code(await send_command(bus, address, body, command_id="c1", headers={})) == "E2112"
        await send(bus, "a1", "c2", "open")
        await outcome(bus, "c2")
        await asyncio.sleep(0.2)  # the server's own window
        assert (await send_command(bus, address, body, command_id="c1", headers={})).ok
        # A subscriber hears it before it is stored.
        await until(lambda: are_said(bus, "c1", [False, False, True]))


async def test_another_command_with_the_same_id_is_parked_and_the_outcome_stays(
    bus: Bus, repository: Repository[State], store: EventStore
) -> None:
    async with processing(bus, repository) as processor:
        await send(bus, "a1", "c1", 1)
        first = await outcome(bus, "c1")
        await asyncio.sleep(0.2)  # the server's own window
        await send(bus, "a1", "c1", 2)
        await until(lambda: are_done(bus, processor))
    assert await outcomes(bus, "c1") == [first]
    [letter] = await letters(bus)
    assert letter.code == "E2110" and "used before" in letter.reason
    assert payloads(await store.load(toy_id("a1"))) == [1]


@pytest.mark.usefixtures("patient_keeper")
async def test_a_server_that_dies_time_and_again_costs_no_command_and_no_order(
    fresh_nats: EmbeddedNats, bus: Bus, repository: Repository[State], store: EventStore
) -> None:
    async def send_all(lane: int) -> None:
        number = 0
        while number < 60:
            try:
                await send(bus, f"a{lane}", f"c{lane}-{number}", number)
            except Exception:
                await asyncio.sleep(0.05)
            else:
                number += 1

    async with processing(bus, repository) as processor:
        senders = asyncio.gather(*(send_all(lane) for lane in range(4)))
        for _ in range(5):
            await asyncio.sleep(0.15)
            await kill(fresh_nats)
        await senders
        for lane in range(4):
            await outcome(bus, f"c{lane}-59")
        await until(lambda: are_done(bus, processor), seconds=30)
    for lane in range(4):
        assert payloads(await store.load(toy_id(f"a{lane}"))) == list(range(60))
        for number in range(60):
            assert len(await outcomes(bus, f"c{lane}-{number}")) == 1
