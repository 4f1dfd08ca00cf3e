"""Leases: who is alive, by the server's clock alone."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from l02.bus.background.cancelling import end
from l02.bus.commands import leases
from l02.bus.commands.leases import LEASE_SECONDS, Leases, LeaseTaken, hold_lease
from l02.bus.connection.bus import Bus, connect
from l02.bus.connection.streams import LEASES_STREAM
from l02.bus.embedded import EmbeddedNats
from l02.bus.jetstream.put import put
from l02.bus.wire.subjects import lease_subject
from tests.bus.faults import kill
from tests.bus.toy import until


@contextlib.asynccontextmanager
async def alive(bus: Bus, node_id: str, place: str = "here") -> AsyncIterator[Leases]:
    async with asyncio.TaskGroup() as tasks, hold_lease(bus, node_id, place, tasks) as leases:
        yield leases


async def test_who_holds_a_lease_is_seen_and_who_gives_it_up_is_not(bus: Bus) -> None:
    async with alive(bus, "n1") as one:
        assert one.is_held and one.live == {"n1"}
        async with alive(bus, "n2") as two:
            assert two.live == {"n1", "n2"}
            await until(lambda: one.live == {"n1", "n2"})
        await until(lambda: one.live == {"n1"}, seconds=2)


async def test_a_lease_that_is_not_renewed_expires_by_itself(bus: Bus) -> None:
    silent = Leases(bus, "n2", "here")
    await silent.acquire()
    began = asyncio.get_running_loop().time()
    async with alive(bus, "n1") as leases:
        await until(lambda: leases.live == {"n1"})
        assert asyncio.get_running_loop().time() - began >= LEASE_SECONDS - 0.5
    assert not silent.is_held


async def test_who_comes_back_late_joins_again_and_takes_nothing_at_first(bus: Bus) -> None:
    leases = Leases(bus, "n1", "here")
    await leases.acquire()

    async def has_expired() -> bool:
        return await bus.stored(LEASES_STREAM, last_on=lease_subject("n1")) is None

    await until(has_expired)
    assert not leases.is_held and leases.term == 1
    keeping = asyncio.create_task(leases.keep())
    assert await leases.held() == 2
    assert not leases.is_settled
    await until(lambda: leases.is_settled)
    await end(keeping)


async def test_a_lease_holds_from_when_it_was_asked_for(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that is stopped meanwhile reads the answer when the lease is long over."""

    async def read_late(*arguments: Any, **more: Any) -> int | None:
        revision = await put(*arguments, **more)
        time.sleep(leases.LEASE_SECONDS)  # noqa: ASYNC251
        return revision

    monkeypatch.setattr(leases, "LEASE_SECONDS", 1)
    monkeypatch.setattr(leases, "put", read_late)
    late = Leases(bus, "n1", "here")
    await late.acquire()
    assert not late.is_held


async def test_a_node_that_begins_anew_need_not_wait_for_the_end_of_its_lease(bus: Bus) -> None:
    killed = Leases(bus, "n1", "here")
    await killed.acquire()
    async with alive(bus, "n1") as leases:
        assert leases.is_held
        with pytest.raises(LeaseTaken, match="another process runs as n1"):
            await killed.keep()


async def test_a_copy_of_a_node_elsewhere_is_refused(bus: Bus) -> None:
    async with alive(bus, "n1"):
        with pytest.raises(LeaseTaken, match="delete the file node_id"):
            await Leases(bus, "n1", "elsewhere").acquire()


@pytest.mark.usefixtures("patient_keeper")
async def test_leases_outlast_a_restart_of_the_server(fresh_nats: EmbeddedNats, bus: Bus) -> None:
    async with (
        connect(fresh_nats.url, name="other", aggregates={}) as other,
        alive(bus, "n1") as one,
        alive(other, "n2"),
    ):
        for _ in range(3):
            await kill(fresh_nats)
            rounds: list[frozenset[str]] = []
            one.on_round(lambda seen=rounds: seen.append(one.live))  # type: ignore[misc]
            await until(lambda seen=rounds: len(seen) >= 3)  # type: ignore[misc]
            assert one.is_held and rounds[-1] == {"n1", "n2"}
