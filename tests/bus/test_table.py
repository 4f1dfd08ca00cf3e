"""The bus serves whatever table it is given: an aggregate of its own kind, and an entry that nobody keeps yet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import msgspec
from msgspec import UNSET

from l02.bus.background.cancelling import end
from l02.bus.commands.processor import CommandProcessor
from l02.bus.commands.service import run_service
from l02.bus.connection.bus import connect
from l02.bus.connection.streams import ensure_streams
from l02.bus.embedded import EmbeddedNats
from l02.bus.log.event_store import open_event_store
from l02.bus.log.repository import Repository
from l02.bus.wire.subjects import AggregateId, command_subject
from l02.domain.kernel.aggregate import Aggregate
from tests.bus.toy import TOY, Note, State, outcome, partitions_of, send_raw

UNKEPT: Aggregate[State] = replace(TOY, name="unkept", messages=(Note,))


@asynccontextmanager
async def running(processor: CommandProcessor) -> AsyncIterator[None]:
    task = asyncio.create_task(processor.run())
    try:
        yield
        assert not task.done(), "the processor has ended by itself"
    finally:
        await end(task)


async def test_an_aggregate_of_its_own_kind_is_served_and_one_without_repository_stops_nobody(
    fresh_nats: EmbeddedNats,
) -> None:
    table = {TOY.name: TOY, UNKEPT.name: UNKEPT}
    async with connect(fresh_nats.url, name="test", aggregates=table) as bus, open_event_store(bus) as store:
        await ensure_streams(bus)
        repositories = {TOY.name: Repository(TOY, store, "n1")}
        async with (
            partitions_of(bus) as partitions,
            running(CommandProcessor(bus, repositories, partitions)),
            run_service(bus, repositories, {}, version="1.2.3", node_id="n1"),
        ):
            subject = command_subject(AggregateId("unkept", "a"), Note.verb)
            await send_raw(bus, subject, b'{"name":"add","payload":1}', {"Nats-Msg-Id": "c1"})
            refused = await outcome(bus, "c1")
            assert refused.error is not UNSET and refused.error.code == "E2110"
            assert "there are: toy" in refused.error.message
            reply = await bus.client.request("l02.api.toy.note", b'{"id":"a","name":"add","payload":3}', timeout=10)
            assert msgspec.json.decode(reply.data)["events"] == ["toy.noted"]
        assert (await Repository(TOY, store, "n2").load("a")).state == (3,)
