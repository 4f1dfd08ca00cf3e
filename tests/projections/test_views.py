"""The live views: the same bytes as the tables, in a bucket to be watched, never going backwards."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import VIEWS_BUCKET
from l02.projections.folds.agents import AgentView
from l02.projections.projector.progress import Progress
from l02.projections.tables.projector import ProjectionAhead, TableProjector
from l02.projections.views.bucket import Overtaken, ViewBucket
from l02.projections.views.projector import POSITION_KEY, VIEWS, ViewProjector, stored_position
from tests.projections import history as h
from tests.projections.conftest import running
from tests.projections.replay import assert_views_equal_replay, stored_rows, stored_views


async def test_the_views_equal_the_tables(bus: Bus, tables: str) -> None:
    newest = await h.append(bus, [*h.History(agents=20).events(2000)])
    await ViewProjector(bus, Progress()).run(until=newest)
    await TableProjector(bus, tables, Progress()).run(until=newest)
    assert await stored_views(bus) == {
        key: row["view"].encode() for key, row in (await stored_rows(tables))["agents"].items()
    }
    await assert_views_equal_replay(bus)
    assert (await stored_position(ViewBucket(bus)))[0] == newest


async def test_every_change_can_be_watched(bus: Bus) -> None:
    bucket = await bus.jetstream.key_value(VIEWS_BUCKET)
    watcher = await bucket.watch("agent.*", ignore_deletes=True)
    progress = Progress()
    states: list[tuple[int, str, int]] = []
    events = [h.spawn_requested(), h.spawned(), h.started("x1"), h.completed("x1")]
    async with running(ViewProjector(bus, progress).run()):
        for version, event in enumerate(events, start=1):
            await progress.wait_for(VIEWS, await h.append_events(bus, [event], first_version=version))
    while len(states) < len(events):
        entry = await watcher.updates(timeout=5)  # type: ignore[no-untyped-call]
        if entry is not None and entry.value is not None:
            view = msgspec.json.decode(entry.value, type=AgentView)
            assert entry.key == "agent.a1"
            states.append((view.version, view.state.value, view.executions_completed))
    assert states == [(1, "pending", 0), (2, "running", 0), (3, "running", 0), (4, "running", 1)]


async def test_it_goes_on_where_it_stopped(bus: Bus) -> None:
    history = h.History(agents=5)
    for _ in range(3):
        newest = await h.append(bus, [*history.events(200)])
        await ViewProjector(bus, Progress()).run(until=newest)
    await assert_views_equal_replay(bus)


async def test_a_position_that_lags_behind_is_harmless(bus: Bus) -> None:
    history, bucket = h.History(agents=5), ViewBucket(bus)
    await ViewProjector(bus, Progress()).run(until=await h.append(bus, [*history.events(300)]))
    before = {key: await bucket.load(key) for key in await bucket.keys("agent")}
    _, revision = await stored_position(bucket)
    await bucket.store(POSITION_KEY, b"17", revision)
    await ViewProjector(bus, Progress()).run(until=300)
    assert {key: await bucket.load(key) for key in before} == before, "views were written again"
    await ViewProjector(bus, Progress()).run(until=await h.append(bus, [*history.events(50)]))
    await assert_views_equal_replay(bus)


async def test_several_projectors_never_move_a_view_backwards(bus: Bus) -> None:
    history = h.History(agents=5)
    seen = [Progress() for _ in range(3)]
    bucket = await bus.jetstream.key_value(VIEWS_BUCKET)
    watcher = await bucket.watch("agent.*", ignore_deletes=True)
    last: dict[str, int] = {}

    async with running(*(ViewProjector(bus, progress).run() for progress in seen)):
        for size in (1, 200, 1, 1, 50, 500, 3, 100):
            newest = await h.append(bus, [*history.events(size)])
        async with asyncio.timeout(60):
            for progress in seen:
                await progress.wait_for(VIEWS, newest)
    while sum(last.values()) < newest:
        entry = await watcher.updates(timeout=5)  # type: ignore[no-untyped-call]
        if entry is not None and entry.value is not None:
            version = msgspec.json.decode(entry.value, type=AgentView).version
            assert version > last.get(entry.key, 0)
            last[entry.key] = version
    await assert_views_equal_replay(bus)


async def test_a_view_is_there_within_milliseconds(bus: Bus) -> None:
    progress, seconds = Progress(), []
    async with running(ViewProjector(bus, progress).run()):
        for version in range(1, 100):
            event = h.spawn_requested() if version == 1 else h.spawned()
            sequence = await h.append_events(bus, [event], first_version=version)
            began = time.perf_counter()
            await progress.wait_for(VIEWS, sequence)
            seconds.append(time.perf_counter() - began)
    assert sorted(seconds)[len(seconds) // 2] < 0.05


@pytest.mark.parametrize("damage", [None, b"", b"\xff", b"[1]", b"[" * 5000])
async def test_a_view_that_somebody_has_damaged_is_made_anew(bus: Bus, damage: bytes | None) -> None:
    await ViewProjector(bus, Progress()).run(until=await h.append_events(bus, [h.spawn_requested(), h.spawned()]))
    bucket = await bus.jetstream.key_value(VIEWS_BUCKET)
    if damage is None:
        await bucket.delete("agent.a1")
    else:
        await bucket.put("agent.a1", damage)
    newest = await h.append_events(bus, [h.started("x1")], first_version=3)
    await ViewProjector(bus, Progress()).run(until=newest)
    await assert_views_equal_replay(bus)


async def test_a_position_that_somebody_has_damaged_costs_time_only(bus: Bus) -> None:
    newest = await h.append(bus, [*h.History(agents=3).events(50)])
    await ViewProjector(bus, Progress()).run(until=newest)
    await (await bus.jetstream.key_value(VIEWS_BUCKET)).put(POSITION_KEY, b"far away")
    await ViewProjector(bus, Progress()).run(until=newest)
    await assert_views_equal_replay(bus)
    assert (await stored_position(ViewBucket(bus)))[0] == newest


async def test_a_view_that_no_message_holds_stays_behind_alone(bus: Bus) -> None:
    await h.append_events(bus, [h.spawn_requested(name="n" * 4_500_000), h.spawned()])
    newest = await h.append_events(bus, [h.spawn_requested()], "a2")
    await ViewProjector(bus, Progress()).run(until=newest)
    assert {key for (key,) in await stored_views(bus)} == {"a2"}


async def test_views_of_another_stream_are_refused(bus: Bus) -> None:
    await ViewBucket(bus).store(POSITION_KEY, b"1000000", 0)
    with pytest.raises(ProjectionAhead, match="l02 rebuild views"):
        await ViewProjector(bus, Progress()).run()


async def test_the_bucket_tells_who_was_faster(bus: Bus) -> None:
    bucket = ViewBucket(bus)
    revision = await bucket.store("agent.a1", b"1", 0)
    for wrong in (0, revision + 1):
        with pytest.raises(Overtaken):
            await bucket.store("agent.a1", b"2", wrong)
    assert await bucket.load("agent.a1") == (b"1", revision)
    await bucket.delete("agent.a1", revision)
    value, revision = await bucket.load("agent.a1")
    assert value is None
    assert await bucket.store("agent.a1", b"3", revision) > revision
    assert await bucket.keys("agent") == ["agent.a1"]
    assert await bucket.load("agent.unknown") == (None, 0)
