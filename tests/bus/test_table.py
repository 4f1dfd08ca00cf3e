"""The bus serves whatever table it is given: an aggregate of its own kind, and an entry that nobody keeps yet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

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
from l02.domain.kernel.message import Context, Event, WireCommand
from tests.bus.toy import outcome, partitions_of, send_raw


class Counted(Event, frozen=True, kw_only=True):
    type: ClassVar[str] = "counter.counted"
    by: int

    def evolve(self, state: int, /) -> int:
        return state + self.by


class Count(WireCommand, frozen=True, kw_only=True):
    verb: ClassVar[str] = "count"
    begins: ClassVar[bool] = True
    by: int

    def decide(self, state: int, context: Context, /) -> list[Counted]:
        return [Counted(by=self.by)] if self.by else []


COUNTER = Aggregate(
    name="counter", initial_state=int, exists=bool, messages=(Count, Counted), fold_version=1, absent="there is none"
)
UNKEPT = Aggregate(
    name="unkept", initial_state=int, exists=bool, messages=(Count,), fold_version=1, absent="there is none"
)


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
    table = {COUNTER.name: COUNTER, UNKEPT.name: UNKEPT}
    async with connect(fresh_nats.url, name="test", aggregates=table) as bus, open_event_store(bus) as store:
        await ensure_streams(bus)
        repositories = {COUNTER.name: Repository(COUNTER, store, "n1")}
        async with (
            partitions_of(bus) as partitions,
            running(CommandProcessor(bus, repositories, partitions)),
            run_service(bus, repositories, {}, version="1.2.3", node_id="n1"),
        ):
            subject = command_subject(AggregateId("unkept", "a"), "count")
            await send_raw(bus, subject, b'{"by":1}', {"Nats-Msg-Id": "c1"})
            refused = await outcome(bus, "c1")
            assert refused.error is not UNSET and refused.error.code == "E2110"
            assert "there are: counter" in refused.error.message
            reply = await bus.client.request("l02.api.counter.count", b'{"id":"a","by":3}', timeout=10)
            assert msgspec.json.decode(reply.data)["events"] == ["counter.counted"]
        assert (await Repository(COUNTER, store, "n2").load("a")).state == 3
