"""An id belongs to one content at one address: who uses it for another is told, and nobody gets another's outcome."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec import UNSET
from nats.aio.msg import Msg

from l02.bus.commands.dead_letters import dead_letters
from l02.bus.commands.ids import bound_id, is_bound, is_bound_to, owner_of
from l02.bus.commands.outcomes import Outcome, decode_outcome, failed, outcome_waiter, publish_outcome
from l02.bus.commands.sender import send_command
from l02.bus.connection.bus import Bus
from l02.bus.connection.listening import listen
from l02.bus.connection.streams import COMMANDS_STREAM, OUTCOMES_STREAM, ensure_streams
from l02.bus.log.event_store import EventStore
from l02.bus.log.repository import Repository
from l02.bus.wire.incoming import content_of
from l02.bus.wire.subjects import CommandAddress, command_subject, outcome_subject, owner_subject
from l02.domain.errors import ErrorCode, Failure
from tests.bus.toy import TABLE, State, outcomes, payloads, processing, send_raw, toy_id, until

REFUSED = Failure(ErrorCode.INVALID_STATE, "no")


def code(said: Outcome) -> str | None:
    return None if said.error is UNSET else said.error.code


def body(payload: Any, name: str = "add") -> bytes:
    return msgspec.json.encode({"name": name, "payload": payload})


async def ask(bus: Bus, toy_name: str, payload: Any, command_id: str, name: str = "add") -> Outcome:
    address = CommandAddress(toy_id(toy_name), "note")
    return await send_command(bus, address, body(payload, name), command_id=command_id, headers={})


async def send_late(bus: Bus, subject: str, raw: bytes, command_id: str) -> int:
    """Store a command as it would be when the server has forgotten the id."""
    return await send_raw(bus, subject, raw, {"L02-Command-Id": command_id})


@asynccontextmanager
async def heard(bus: Bus, command_id: str) -> AsyncIterator[asyncio.Queue[Msg]]:
    """What any client hears that listens for the outcome."""
    queue: asyncio.Queue[Msg] = asyncio.Queue()
    subscription = await listen(bus.client, outcome_subject(command_id), queue.put_nowait)
    await bus.client.flush()
    try:
        yield queue
    finally:
        await subscription.unsubscribe()


OTHERS = {
    "another toy": ("l02.cmd.toy.b.note", body(1)),
    "another body": ("l02.cmd.toy.a.note", body(2)),
    "another verb": ("l02.cmd.toy.a.clear", b"{}"),
    "another aggregate": ("l02.cmd.node.a.drain", b"{}"),
    "unreadable": ("l02.cmd.toy.a.note", b"{"),
    "no address": ("l02.cmd.toy.a.b.c", body(1)),
}


async def test_another_command_under_an_id_is_refused_to_its_sender_and_to_nobody_else(
    bus: Bus, repository: Repository[State], store: EventStore
) -> None:
    async with processing(bus, repository), heard(bus, "c1") as queue:
        first = await ask(bus, "a", 1, "c1")
        assert first.ok and decode_outcome((await queue.get()).data) == first
        for name, (subject, raw) in OTHERS.items():
            sequence = await send_late(bus, subject, raw, "c1")
            told = await queue.get()
            said = decode_outcome(told.data)
            assert (said.command_id, said.ok, code(said)) == ("c1", False, "E2110"), name
            assert told.headers and told.headers["L02-Command-Sequence"] == str(sequence), name
        assert await outcomes(bus, "c1") == [first]
    assert [letter.body async for letter in dead_letters(bus)] == [raw for _, raw in OTHERS.values()]
    assert payloads(await store.load(toy_id("a"))) == [1] and await store.load(toy_id("b")) == []


async def test_within_the_window_in_which_the_server_drops_it_the_second_is_told_as_well(
    bus: Bus, repository: Repository[State], store: EventStore
) -> None:
    """Nobody decides meanwhile, so all that comes is in the server's window or behind it; the answers are the same."""
    asked = {
        "first": ("a", 1, "add"),
        "again": ("a", 1, "add"),
        "another toy": ("b", 1, "add"),
        "another body": ("a", 2, "add"),
        "another note": ("a", 1, "two"),
    }
    waiting = {}
    for name, (toy_name, payload, how) in asked.items():
        waiting[name] = asyncio.create_task(ask(bus, toy_name, payload, "c1", how))
        await until(lambda: _commands(bus))
    async with processing(bus, repository):
        answers = {name: await task for name, task in waiting.items()}
    assert answers["first"].ok and answers["again"] == answers["first"]
    assert [code(said) for said in answers.values()] == [None, None, "E2110", "E2110", "E2110"]
    assert payloads(await store.load(toy_id("a"))) == [1] and await store.load(toy_id("b")) == []


async def _commands(bus: Bus) -> int:
    return (await bus.jetstream.stream_info(COMMANDS_STREAM)).state.messages


async def test_while_the_first_is_under_way_the_second_is_told_and_the_first_gets_its_own(
    bus: Bus, repository: Repository[State]
) -> None:
    async with processing(bus, repository):
        async with repository._exclusive("slow"):
            first = asyncio.create_task(ask(bus, "slow", 1, "c1"))
            await until(lambda: owner_of(bus, "c1"))
            assert code(await ask(bus, "quick", 1, "c1")) == "E2110"
            assert not first.done() and await outcomes(bus, "c1") == []
        assert (await first).subject == "toy/slow"


async def test_another_node_knows_whose_an_id_is(bus: Bus, repository: Repository[State], store: EventStore) -> None:
    async with processing(bus, repository, "n1"):
        assert code(await ask(bus, "a", 1, "c1", "unless-opened")) == "E2112"
    bus.claimed.clear()
    async with processing(bus, Repository(repository.aggregate, store, "n1"), "n2"):
        assert code(await ask(bus, "b", 1, "c1", "unless-opened")) == "E2110"
        assert code(await ask(bus, "a", 1, "c1", "add")) == "E2110"
        assert code(await ask(bus, "a", 1, "c1", "unless-opened")) == "E2112"


async def test_who_has_not_heard_the_refusal_finds_it_kept(bus: Bus, repository: Repository[State]) -> None:
    async def never(said: Outcome, sequence: int) -> bool:
        return False

    async with processing(bus, repository), heard(bus, "c1") as queue:
        await ask(bus, "a", 1, "c1")
        sequence = await send_late(bus, "l02.cmd.toy.b.note", body(1), "c1")
        for _ in range(2):
            await queue.get()
        async with outcome_waiter(bus, "c1") as late:
            assert code(await late.wait(sequence, never)) == "E2110"


async def test_what_is_said_for_another_is_not_taken(bus: Bus) -> None:
    """Nobody decides: what is said is what another version of a node may have said."""
    waiting = asyncio.create_task(ask(bus, "a", 1, "c1"))
    await until(lambda: _commands(bus))
    another = await send_late(bus, "l02.cmd.toy.a.note", body(2), "c1")
    in_other_words = await send_late(bus, "l02.cmd.toy.a.note", b'{"payload": 1, "name": "add"}', "c1")
    of_b = Outcome(command_id="c1", ok=True, subject="toy/b", version=7)
    async with heard(bus, "c1") as queue:
        await publish_outcome(bus, failed("c1", REFUSED, "toy/a"), another)
        await publish_outcome(bus, of_b, 0)
        for _ in range(2):
            await queue.get()
        assert not waiting.done()
        mine = Outcome(command_id="c1", ok=True, subject="toy/a", version=3)
        await publish_outcome(bus, mine, in_other_words)
        assert await waiting == mine


@pytest.fixture
async def running(bus: Bus, repository: Repository[State]) -> AsyncIterator[None]:
    async with processing(bus, repository):
        yield


@given(raw=st.binary(max_size=32))
@example(raw=b'{"x":' + b"[" * 100_000)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_what_anybody_writes_where_it_stands_whose_an_id_is_stops_no_command(
    bus: Bus, running: None, raw: bytes
) -> None:
    command_id = uuid.uuid4().hex
    await bus.publish(owner_subject(command_id), raw)
    assert (await ask(bus, "a", 1, command_id)).ok


words = st.sampled_from(["a", "b", "c"])
sent = st.lists(st.tuples(st.sampled_from(["x", "y"]), words, st.integers(0, 2), st.booleans()), min_size=2, max_size=8)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=sent)
async def test_of_all_that_is_sent_under_an_id_one_content_is_carried_out(
    bus: Bus, store: EventStore, running: None, asked: list[tuple[str, str, int, bool]]
) -> None:
    """Side by side, in the server's window and behind it."""
    number = uuid.uuid4().hex

    async def one(name: str, lane: str, payload: int, refused: bool) -> Outcome:
        how = "unless-opened" if refused else "add"
        return await ask(bus, f"{lane}-{number}", payload, f"{name}-{number}", how)

    answers = await asyncio.gather(*(one(*item) for item in asked))
    done: dict[str, set[tuple[str, int, bool]]] = {}
    for (name, lane, payload, refused), said in zip(asked, answers, strict=True):
        assert said.subject == f"toy/{lane}-{number}"
        if code(said) != "E2110":
            assert said.ok is not refused
            done.setdefault(name, set()).add((lane, payload, refused))
    assert done.keys() == {name for name, *_ in asked} and all(len(contents) == 1 for contents in done.values())
    for lane in "abc":
        expected = sorted(p for contents in done.values() for at, p, refused in contents if at == lane and not refused)
        assert sorted(payloads(await store.load(toy_id(f"{lane}-{number}")))) == expected


NOTE = CommandAddress(toy_id("a"), "note")


async def test_an_id_that_was_made_for_a_command_belongs_to_it_though_nobody_has_noted_that(
    bus: Bus, repository: Repository[State], store: EventStore
) -> None:
    command_id = bound_id(NOTE, body(1))
    # The first that comes is none of those it was made for: nothing says so but the id.
    async with processing(bus, repository), heard(bus, command_id) as queue:
        for name, (subject, raw) in OTHERS.items():
            sequence = await send_late(bus, subject, raw, command_id)
            told = await queue.get()
            assert (code(decode_outcome(told.data)), told.headers and told.headers["L02-Command-Sequence"]) == (
                "E2110",
                str(sequence),
            ), name
        first = await ask(bus, "a", 1, command_id)
        assert first.ok and first.subject == "toy/a" and decode_outcome((await queue.get()).data) == first
        assert await ask(bus, "a", 1, command_id) == first
        await send_late(bus, "l02.cmd.toy.a.note", b'{"payload": 1, "name": "add"}', command_id)
        assert code(await ask(bus, "a", 2, command_id)) == "E2110"
        assert code(await ask(bus, "b", 1, command_id)) == "E2110"
    assert await outcomes(bus, command_id) == [first]
    assert payloads(await store.load(toy_id("a"))) == [1] and await store.load(toy_id("b")) == []
    parked = [letter.body async for letter in dead_letters(bus)]
    assert parked[: len(OTHERS)] == [raw for _, raw in OTHERS.values()]


async def test_when_all_that_was_said_is_lost_who_asks_again_is_told_the_same_and_no_other_command_has_the_id(
    bus: Bus, repository: Repository[State], store: EventStore
) -> None:
    """Outcomes and claims are gone, and the nodes' memory; the log is left, and what the ids say themselves."""
    bound, plain = bound_id(NOTE, body(1)), "c1"
    async with processing(bus, repository, "n1"):
        first = {command_id: await ask(bus, "a", 1, command_id) for command_id in (bound, plain)}
    await bus.api(f"STREAM.DELETE.{OUTCOMES_STREAM}", {})
    await ensure_streams(bus)
    bus.claimed.clear()
    async with processing(bus, Repository(repository.aggregate, store, "n1"), "n2"):
        for command_id in (bound, plain):
            assert code(await ask(bus, "a", 2, command_id)) == "E2110"
        assert code(await ask(bus, "b", 1, bound)) == "E2110"
        bus.claimed.clear()
        assert await ask(bus, "a", 1, bound) == first[bound]
    await bus.api(f"STREAM.DELETE.{OUTCOMES_STREAM}", {})
    await ensure_streams(bus)
    async with processing(bus, Repository(repository.aggregate, store, "n1"), "n3"):
        assert {command_id: await ask(bus, "a", 1, command_id) for command_id in first} == first
    assert payloads(await store.load(toy_id("a"))) == [1, 1] and await store.load(toy_id("b")) == []


async def test_such_an_id_costs_no_write_of_its_own_and_what_was_refused_under_it_is_tried_again(
    bus: Bus, repository: Repository[State]
) -> None:
    refused = bound_id(NOTE, body(1, "unless-opened"))
    async with processing(bus, repository):
        for _ in range(2):
            assert code(await ask(bus, "a", 1, refused, "unless-opened")) == "E2112"
        made = [bound_id(NOTE, body(7)) for _ in range(3)]
        assert all([(await ask(bus, "a", 7, command_id)).ok for command_id in made])
    bus.claimed.clear()
    async with processing(bus, repository, "n2"):
        assert [(await ask(bus, "a", 7, command_id)).version for command_id in made] == [1, 2, 3]
    stored = (await bus.jetstream.stream_info(OUTCOMES_STREAM, subjects_filter=">")).state.subjects
    assert stored is not None and stored.keys() == {outcome_subject(command_id) for command_id in (refused, *made)}


@given(
    st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["note", "clear"]), st.binary(max_size=8)),
    st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["note", "clear"]), st.binary(max_size=8)),
)
def test_an_id_is_bound_to_its_command_and_to_no_other(
    one: tuple[str, str, bytes], two: tuple[str, str, bytes]
) -> None:
    addresses = [CommandAddress(toy_id(name), verb) for name, verb, _ in (one, two)]
    command_id = bound_id(addresses[0], one[2])
    assert is_bound(command_id) and not is_bound(command_id + "0") and not is_bound(uuid.uuid4().hex)
    assert bound_id(addresses[0], one[2]) != command_id
    assert is_bound_to(command_id, addresses[1], two[2]) is (one == two)
    assert not is_bound_to(command_id, None, one[2])


@given(raw=st.binary(max_size=64), other=st.binary(max_size=64))
def test_unreadable_bytes_are_the_same_only_as_themselves(raw: bytes, other: bytes) -> None:
    subject = command_subject(toy_id("a"), "dance")
    assert (content_of(TABLE, subject, raw) == content_of(TABLE, subject, other)) is (raw == other)
    assert content_of(TABLE, subject, raw) != content_of(TABLE, command_subject(toy_id("b"), "dance"), raw)
