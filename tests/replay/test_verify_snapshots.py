"""A snapshot that is wrong is found, also one whose hash fits; one that nobody would use is left alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import SNAPSHOTS_STREAM
from l02.bus.embedded import EmbeddedNats
from l02.bus.log import loaded
from l02.bus.log import snapshots as module
from l02.bus.log.event_store import open_event_store
from l02.bus.log.repository import Repository
from l02.bus.log.snapshots import open_snapshots
from l02.bus.wire.subjects import AggregateId, snapshot_subject
from l02.domain.aggregates import AGENT
from tests.projections import history as h
from tests.replay.conftest import found, program, project

SUBJECT = snapshot_subject(AggregateId("agent", "a1"))
AFTERWARDS = 5
Body = dict[str, Any]


@pytest_asyncio.fixture
async def healthy(bus: Bus, tables: str) -> str:
    """Two agents, one with a snapshot, which has gone on since."""
    events = [*h.History(agents=2).events(module.EVENTS_PER_SNAPSHOT * 3)]
    await h.append(bus, events[:-AFTERWARDS])
    async with open_event_store(bus) as store, open_snapshots(bus, AGENT) as snapshots:
        await Repository(AGENT, store, "n1", snapshots).load("a1")
        await snapshots.settled()
    await project(bus, tables, await h.append(bus, events[-AFTERWARDS:]))
    return tables


async def tamper(bus: Bus, change: Callable[[Body], None]) -> int:
    """Change what the snapshot says, and give it the hash that fits; the event that it says it stands at."""
    stored = await bus.stored(SNAPSHOTS_STREAM, last_on=SUBJECT)
    assert stored is not None
    envelope = msgspec.msgpack.decode(stored.data)
    body = msgspec.msgpack.decode(envelope["body"])
    state = body["state"] = msgspec.json.decode(body["state"])
    change(body)
    body["state"] = msgspec.json.encode(state)
    raw = msgspec.msgpack.encode(body)
    envelope |= {"body": raw, "sha256": hashlib.sha256(raw).digest()}
    await bus.publish(SUBJECT, msgspec.msgpack.encode(envelope))
    return int(body["sequence"])


async def test_nothing_is_wrong(bus: Bus, healthy: str) -> None:
    assert await bus.stored(SNAPSHOTS_STREAM, last_on=SUBJECT) is not None
    differences, _ = await found(bus, healthy)
    assert differences == []
    # Written anew as it was: what the test changes below is all that differs.
    await tamper(bus, lambda body: None)
    differences, _ = await found(bus, healthy)
    assert differences == []


def _state(body: Body) -> None:
    body["state"]["status"] = "suspended"


def _version(body: Body) -> None:
    body["version"] += 1


def _commands(body: Body) -> None:
    body["command_keys"] += bytes(loaded._DIGEST_BYTES)
    body["command_facts"] += bytes(loaded._FACTS.size)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (_state, "state.status"),
        (_version, "version"),
        (lambda body: body.update(event_id="another"), "event_id"),
        (_commands, "commands"),
    ],
    ids=["state", "version", "event", "commands"],
)
async def test_a_tampered_snapshot_whose_hash_fits(
    bus: Bus, healthy: str, change: Callable[[Body], None], field: str
) -> None:
    sequence = await tamper(bus, change)
    [difference], _ = await found(bus, healthy)
    assert (difference.place, difference.key, difference.sequence) == ("snapshots", "agent.a1", sequence)
    assert difference.field == field
    assert difference.expected != difference.found


async def test_a_snapshot_of_events_that_are_not_there(bus: Bus, healthy: str) -> None:
    await tamper(bus, lambda body: body.update(sequence=10_000))
    [difference], _ = await found(bus, healthy)
    assert "claims to stand at event 10000, the last is 600" in difference.message


async def test_a_damaged_snapshot(bus: Bus, healthy: str) -> None:
    await bus.publish(SUBJECT, b"\xff\xff")
    [difference], _ = await found(bus, healthy)
    assert "it is of no use: it cannot be read" in difference.message


async def test_a_snapshot_of_another_version_of_the_program(
    bus: Bus, healthy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await tamper(bus, _state)
    monkeypatch.setattr(module, "_LAYOUT", 0)
    differences, _ = await found(bus, healthy)
    assert differences == []


async def test_what_the_program_says(bus: Bus, healthy: str, fresh_nats: EmbeddedNats) -> None:
    sequence = await tamper(bus, _state)
    code, printed, errors = await program("verify", L02_NATS_URL=fresh_nats.url, L02_POSTGRES_URL=healthy)
    assert (code, errors) == (1, "")
    line, conclusion = printed.splitlines()
    assert line.startswith(f'snapshots agent.a1, event {sequence}: state.status is "suspended", by the events it is')
    assert conclusion.startswith("1 difference")
