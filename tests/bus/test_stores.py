"""Dead letters and the object store."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from l02.bus.commands.dead_letters import DeadLetter, dead_letter_at, dead_letters, park, resend
from l02.bus.commands.timers import set_timer
from l02.bus.connection.bus import Bus
from l02.bus.connection.leader import standing_of
from l02.bus.connection.streams import COMMANDS_STREAM, OBJECTS_BUCKET, TIMERS_STREAM
from l02.bus.jetstream.pull import pull
from l02.bus.log.reader import last_sequence
from l02.bus.log.repository import Repository
from l02.bus.objects.store import inline, outline
from l02.bus.wire.subjects import DUE
from l02.domain.errors import ErrorCode, Failure
from l02.domain.values import INLINE_LIMIT_BYTES
from tests.bus.toy import State, outcome, processing, send_raw, toy_id, until


async def letters(bus: Bus) -> list[DeadLetter]:
    return [letter async for letter in dead_letters(bus)]


async def park_one(bus: Bus, body: bytes, headers: dict[str, str], times: int = 1) -> None:
    await park_stored(bus, COMMANDS_STREAM, await send_raw(bus, "l02.cmd.toy.a1.note", body, headers), times)


async def park_stored(bus: Bus, stream: str, sequence: int, times: int = 1) -> None:
    async def config() -> dict[str, object]:
        return {"ack_policy": "none", "deliver_policy": "by_start_sequence", "opt_start_seq": sequence}

    async with pull(bus, stream, config) as source:
        [message] = await source.next_batch(1)
        for _ in range(times):
            await park(bus, message, consumer="test", code="E2110", reason="because")


async def test_letters_are_listed_shown_and_sent_again(bus: Bus, repository: Repository[State]) -> None:
    assert await letters(bus) == []
    for number in range(3):
        await park_one(bus, b'{"name":"add"}', {"Nats-Msg-Id": f"c{number}", "L02-Actor": "änn"}, times=2)
    listed = await letters(bus)
    assert [letter.headers["Nats-Msg-Id"] for letter in listed] == ["c0", "c1", "c2"]
    shown = await dead_letter_at(bus, listed[1].sequence)
    assert shown == listed[1]
    assert (shown.subject, shown.body, shown.code) == ("l02.cmd.toy.a1.note", b'{"name":"add"}', "E2110")
    assert (shown.reason, shown.consumer, shown.headers["L02-Actor"]) == ("because", "test", "änn")
    assert await dead_letter_at(bus, 99) is None
    await resend(bus, listed[1])
    assert [letter.sequence for letter in await letters(bus)] == [listed[0].sequence, listed[2].sequence]
    async with processing(bus, repository):
        assert (await outcome(bus, "c1")).ok
    assert await dead_letter_at(bus, listed[1].sequence) is None


async def test_a_letter_is_sent_again_without_what_was_meant_for_its_first_way(bus: Bus) -> None:
    await park_one(bus, b"{}", {"Nats-Expected-Last-Subject-Sequence": "0"})
    await set_timer(bus, toy_id("a1"), "t", due=datetime.now(UTC), verb="go", body=b"{}", command_id="t1")
    await until(lambda: _has_fired(bus))
    await park_stored(bus, TIMERS_STREAM, await last_sequence(bus, TIMERS_STREAM))
    sent, fired = await letters(bus)
    assert "Nats-Scheduler" in fired.headers
    await resend(bus, sent)
    await resend(bus, fired)
    assert await letters(bus) == []


async def _has_fired(bus: Bus) -> bool:
    return (await standing_of(bus, TIMERS_STREAM, f"{DUE}.>")).messages == 1


async def test_a_letter_too_large_to_be_kept_whole_is_not_sent_again(bus: Bus) -> None:
    size = bus.client.max_payload * 4 // 5
    await park_one(bus, b"x" * size, {f"Header-{number}": "y" * 500 for number in range(100)})
    [letter] = await letters(bus)
    assert letter.truncated and letter.body == b"x" * 65_536 and len(letter.headers) == 32
    with pytest.raises(Failure) as refused:
        await resend(bus, letter)
    assert refused.value.code is ErrorCode.PAYLOAD_TOO_LARGE and len(await letters(bus)) == 1


async def test_a_letter_of_a_mebibyte_is_kept_whole(bus: Bus) -> None:
    await park_one(bus, b"\xff" * 1024 * 1024, {})
    [letter] = await letters(bus)
    assert letter.body == b"\xff" * 1024 * 1024 and not letter.truncated


@pytest.mark.parametrize(
    ("size", "is_stored"), [(10, False), (INLINE_LIMIT_BYTES - 2, False), (INLINE_LIMIT_BYTES, True)]
)
async def test_only_large_values_go_into_the_object_store(bus: Bus, size: int, is_stored: bool) -> None:
    value = "x" * size
    kept = await outline(bus, value)
    assert (kept != value) == is_stored
    assert await inline(bus, kept) == value


async def test_the_same_value_is_stored_once(bus: Bus) -> None:
    value = {"text": "x" * 3 * 1024 * 1024}
    first = await outline(bus, value)
    store = await bus.jetstream.object_store(OBJECTS_BUCKET)
    stored = (await store.get_info(first["$object"])).nuid
    assert await outline(bus, value) == first and (await store.get_info(first["$object"])).nuid == stored
    assert await inline(bus, first) == value


async def test_a_changed_or_missing_object_is_told(bus: Bus) -> None:
    reference = await outline(bus, "x" * 300_000)
    store = await bus.jetstream.object_store(OBJECTS_BUCKET)
    changed = bytearray(b'"' + b"x" * 300_000 + b'"')
    changed[150_000] ^= 1
    await store.put(reference["$object"], bytes(changed))
    with pytest.raises(Failure) as corrupted:
        await inline(bus, reference)
    assert corrupted.value.code is ErrorCode.CHECKPOINT_CORRUPTED and "hash" in corrupted.value.message
    await store.delete(reference["$object"])
    with pytest.raises(Failure) as gone:
        await inline(bus, reference)
    assert gone.value.code is ErrorCode.CHECKPOINT_CORRUPTED and "gone" in gone.value.message


async def test_a_byte_that_flipped_in_the_store_is_noticed(bus: Bus) -> None:
    reference = await outline(bus, "x" * 300_000)
    stream = f"OBJ_{OBJECTS_BUCKET}"
    chunk = await bus.stored(stream, sequence=1)
    assert chunk is not None and chunk.headers is not None
    flipped = bytearray(chunk.data)
    flipped[7] ^= 1
    await bus.jetstream.delete_msg(stream, 1)
    await bus.publish(chunk.headers["Nats-Subject"], bytes(flipped))
    with pytest.raises(Failure) as corrupted:
        await inline(bus, reference)
    assert corrupted.value.code is ErrorCode.CHECKPOINT_CORRUPTED


async def test_an_object_whose_bytes_are_gone_is_told_and_not_waited_for(bus: Bus) -> None:
    reference = await outline(bus, "x" * 3_000_000)
    subscriptions = len(bus.client._subs)
    await bus.jetstream.purge_stream(f"OBJ_{OBJECTS_BUCKET}", subject=f"$O.{OBJECTS_BUCKET}.C.>")
    with pytest.raises(Failure) as corrupted:
        await inline(bus, reference)
    assert corrupted.value.code is ErrorCode.CHECKPOINT_CORRUPTED
    assert len(bus.client._subs) == subscriptions


async def test_a_value_of_many_mebibytes_comes_back(bus: Bus) -> None:
    value = ["x" * 1_000_000] * 40
    assert await inline(bus, await outline(bus, value)) == value


@pytest.mark.parametrize("value", [None, 1, "x", [1], {"$object": 1, "sha256": [], "size": "s"}, {"$object": "x"}])
async def test_what_only_looks_like_a_reference_is_a_value(bus: Bus, value: object) -> None:
    assert await inline(bus, value) == value
