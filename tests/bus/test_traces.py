"""A trace is carried from a command to all that goes back to it, also by nodes that have not seen the command."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l02.bus.connection.bus import Bus
from l02.bus.log.event_store import EventStore
from l02.bus.log.repository import Repository
from l02.bus.log.snapshots import open_snapshots
from l02.bus.wire.traces import _NEWEST, valid_traceparent
from l02.domain.kernel.message import Metadata
from tests.bus.toy import TOY, State, note, toy_id

ID, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def trace(number: int) -> str:
    return f"00-{number:032x}-{SPAN}-01"


def asked(command_id: str, traceparent: str | None) -> Metadata:
    return Metadata(
        causation_id=command_id,
        correlation_id=command_id,
        actor="ann",
        traceparent=traceparent,
        command_hash=command_id,
    )


def own(correlation_id: str) -> Metadata:
    return Metadata(causation_id="n", correlation_id=correlation_id, actor="node/n1")


TIMER = Metadata(causation_id="t", correlation_id="t", actor="timer", command_hash="t")


async def record(repository: Repository[State], *all_metadata: Metadata) -> list[str | None]:
    traces = []
    for number, metadata in enumerate(all_metadata):
        decision = await repository.decide("a1", note(number, "two"), metadata)
        assert len({item.metadata.traceparent for item in decision.events}) == 1
        traces.append(decision.events[0].metadata.traceparent)
    return traces


async def test_what_goes_back_to_a_command_has_its_trace_and_all_else_that_of_the_first(
    repository: Repository[State], store: EventStore
) -> None:
    born, work = asked("born", trace(1)), asked("work", trace(2))
    assert await record(repository, born, work, asked("quiet", None)) == [trace(1), trace(2), None]
    follow_ups = [own("work"), own("born"), own("quiet"), own("something else"), TIMER]
    expected = [trace(2), trace(1), None, trace(1), trace(1)]
    assert await record(repository, *follow_ups) == expected
    # Another process, which reads the aggregate from its events.
    assert await record(Repository(TOY, store, "n1"), *follow_ups[:-1]) == expected[:-1]
    events = await store.load(toy_id("a1"))
    assert [item.metadata.traceparent for item in events if item.metadata.correlation_id == "work"] == [trace(2)] * 6


async def test_nothing_is_carried_where_nobody_has_asked_for_it(repository: Repository[State]) -> None:
    assert await record(repository, asked("born", None), asked("work", trace(1))) == [None, trace(1)]
    assert await record(repository, own("born"), own("x"), own("work"), TIMER) == [None, None, trace(1), None]


async def test_a_snapshot_keeps_it_and_no_more_than_the_newest(
    bus: Bus, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("l02.bus.log.snapshots.EVENTS_PER_SNAPSHOT", 10)
    commands = [asked(f"c{number}", trace(number)) for number in range(1, _NEWEST + 10)]
    async with open_snapshots(bus, TOY) as snapshots:
        await record(Repository(TOY, store, "n1", snapshots), *commands)
        await snapshots.settled()
        kept = await snapshots.stored("a1")
        assert kept is not None and kept.traces.own == trace(1) and len(kept.traces.newest) == _NEWEST
        another = Repository(TOY, store, "n1", snapshots)
        newest = f"c{_NEWEST + 9}"
        assert await record(another, own(newest), own("c3"), own("x")) == [trace(_NEWEST + 9), None, trace(1)]


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "00-1",
        f"ff-{ID}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{ID}-{'0' * 16}-01",
        f"00-{ID.upper()}-{SPAN}-01",
        f"00-{ID}-{SPAN}-01-more",
        f"00-{ID}-{SPAN}-01\n",
        f" 00-{ID}-{SPAN}-01",
        f"00-{ID}-{SPAN}-\u0661\u0661",
        "\x00" * 55,
    ],
)
def test_what_is_no_traceparent_is_dropped(bad: str) -> None:
    assert valid_traceparent(bad) is None


@given(
    version=st.integers(0, 254),
    number=st.integers(1, 2**128 - 1),
    span=st.integers(1, 2**64 - 1),
    flags=st.binary(min_size=1, max_size=1),
)
def test_what_is_one_is_kept(version: int, number: int, span: int, flags: bytes) -> None:
    whole = f"{version:02x}-{number:032x}-{span:016x}-{flags.hex()}"
    assert valid_traceparent(whole) == whole


@given(st.text(max_size=60))
def test_any_text_is_kept_whole_or_dropped(text: str) -> None:
    assert valid_traceparent(text) in (None, text)
