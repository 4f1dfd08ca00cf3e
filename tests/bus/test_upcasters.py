"""An event stored in an earlier shape is read in today's; one of a shape to come is refused."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
import pytest

from l02.bus.connection.bus import Bus, connect
from l02.bus.embedded.nats_server import EmbeddedNats
from l02.bus.log.event_store import EventStore, open_event_store
from l02.bus.log.repository import Repository
from l02.bus.log.snapshots import open_snapshots
from l02.bus.wire.codec import EventDecoder, UnreadableEvent
from l02.domain.kernel.aggregate import Aggregate, Step
from l02.domain.kernel.message import Event
from l02.domain.upcasting import Upcasters
from tests.bus.toy import TABLE, TOY, append_many, message

NOTED = "toy.noted"


class NotedOfThree(Event, frozen=True, kw_only=True):
    """A shape to come of a note: `payload` became `body` in 2, which `urgent` was added to in 3."""

    type: ClassVar[str] = NOTED
    schema_version: ClassVar[int] = 3
    name: str
    body: Any
    urgent: bool

    def evolve(self, state: tuple[Any, ...], /) -> tuple[Any, ...]:
        return (*state, (self.body, self.urgent))


STEPS: dict[tuple[str, int], Step] = {
    (NOTED, 1): lambda data: {"name": data["name"], "body": data["payload"]},
    (NOTED, 2): lambda data: {**data, "urgent": data["name"] == "stop"},
}
TYPES: dict[str, type[Event]] = {NOTED: NotedOfThree}
UPGRADED: Aggregate[tuple[Any, ...]] = Aggregate(
    name=TOY.name,
    initial_state=tuple,
    exists=bool,
    messages=(NotedOfThree,),
    fold_version=2,
    absent="there is no such toy",
    upcasters=STEPS,
)


def stored(schema_version: int, data: Any) -> bytes:
    envelope = msgspec.json.decode(message("a1", 1)[1], type=dict[str, Any])
    return msgspec.json.encode({**envelope, "schemaversion": schema_version, "data": data})


@pytest.mark.parametrize(
    ("schema_version", "data"),
    [
        (1, {"name": "stop", "payload": [1]}),
        (2, {"name": "stop", "body": [1]}),
        (3, {"name": "stop", "body": [1], "urgent": True}),
    ],
)
def test_every_version_is_read_in_the_newest_shape(schema_version: int, data: dict[str, Any]) -> None:
    recorded = EventDecoder([UPGRADED]).decode(stored(schema_version, data), 7)
    assert recorded.event == NotedOfThree(name="stop", body=[1], urgent=True)
    assert (recorded.version, recorded.sequence) == (1, 7)


@pytest.mark.parametrize(
    ("schema_version", "data", "saying"),
    [
        (4, {"name": "x", "body": 1, "urgent": True}, "schema version 4, this node knows 3; upgrade"),
        (0, {"name": "x", "payload": 1}, "schema version 0, this node knows 3"),
        (-1, {"name": "x", "payload": 1}, "schema version -1, this node knows 3"),
        (1, {"name": "x"}, "schema version 1, cannot be upcast: KeyError('payload')"),
        (1, [1], "do not fit"),
        (2, {"name": 5, "body": 1}, "do not fit"),
        (3, {"name": "x", "payload": 1}, "do not fit"),
    ],
)
def test_what_cannot_be_read_is_refused(schema_version: int, data: Any, saying: str) -> None:
    with pytest.raises(UnreadableEvent) as refused:
        EventDecoder([UPGRADED]).decode(stored(schema_version, data), 7)
    assert saying in str(refused.value) and "sequence 7" in str(refused.value)


def test_the_runtimes_own_decoder_refuses_the_shape_to_come() -> None:
    with pytest.raises(UnreadableEvent, match="upgrade this node"):
        EventDecoder(TABLE.values()).decode(stored(3, {"name": "x", "body": 1, "urgent": True}), 7)


@pytest.mark.parametrize(
    "steps",
    [
        {},
        {(NOTED, 1): STEPS[NOTED, 1]},
        {**STEPS, (NOTED, 3): STEPS[NOTED, 2]},
        {**STEPS, ("toy.unknown", 1): STEPS[NOTED, 2]},
    ],
)
def test_a_chain_with_a_gap_or_a_step_to_nowhere_is_no_chain(steps: dict[tuple[str, int], Step]) -> None:
    with pytest.raises(ValueError, match="upcasters are missing"):
        Upcasters(TYPES, steps)


async def test_an_aggregate_of_earlier_events_is_folded_in_todays_shape(
    bus: Bus, store: EventStore, fresh_nats: EmbeddedNats
) -> None:
    """A snapshot that was folded before the upgrade is of no use after it."""
    await append_many(store, "a1", 250)
    async with (
        connect(fresh_nats.url, name="upgraded", aggregates={UPGRADED.name: UPGRADED}) as newer,
        open_event_store(newer) as upgraded,
        open_snapshots(bus, TOY) as before,
        open_snapshots(newer, UPGRADED) as after,
    ):
        await Repository(TOY, store, "n1", before).load("a1")
        await before.settled()
        assert await before.read("a1") is not None
        loaded = await Repository(UPGRADED, upgraded, "n1", after).load("a1")
        assert loaded.state == tuple((number, False) for number in range(1, 251))
        await after.settled()
        restored = await after.read("a1")
        assert restored is not None and restored.version == 250
