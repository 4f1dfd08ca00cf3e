"""The snapshots against the events. Each says which event it stands at; its aggregate is folded anew up to that one.

A hash only says that a snapshot is as it was written. This says whether what was written is right.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import SNAPSHOTS_BUCKET
from l02.bus.log.history import read_history
from l02.bus.log.loaded import Loaded
from l02.bus.log.snapshots import SnapshotOutdated, Snapshots, SnapshotUnusable
from l02.bus.wire.codec import UnreadableEvent
from l02.bus.wire.subjects import AggregateId, aggregate_filter
from l02.domain.aggregates import AGGREGATES
from l02.domain.kernel.aggregate import Aggregate
from l02.domain.kernel.states import encode_state
from l02.projections.views.bucket import ViewBucket
from l02.verify.difference import Difference, Report, compare_json, differs
from l02.verify.replayed import Replayed

SNAPSHOTS = "snapshots"
_POLL_SECONDS = 0.05
_FIELDS = ("sequence", "version", "event_id", "created_at")


async def compare_snapshots(bus: Bus, replayed: Replayed, report: Report, patience: float) -> None:
    """Compare each snapshot with its aggregate as of the same event; a replica gets `patience` seconds to have it.

    One that another version of the program has folded is left alone, as it is by that which loads aggregates: it may
    have been right. Raises NATS' errors, and as `replayed`.
    """
    bucket = ViewBucket(bus, SNAPSHOTS_BUCKET)
    for aggregate in AGGREGATES.values():
        snapshots = Snapshots(bus, aggregate)
        for key in sorted(await bucket.keys(aggregate.name)):
            address = AggregateId(*key.split(".", 1))
            for difference in await _compare(bus, aggregate, snapshots, address, replayed, patience):
                report(difference)


async def _compare(
    bus: Bus,
    aggregate: Aggregate[Any],
    snapshots: Snapshots[Any],
    address: AggregateId,
    replayed: Replayed,
    patience: float,
) -> list[Difference]:
    try:
        snapshot = await snapshots.stored(address.id)
    except SnapshotOutdated:
        return []
    except SnapshotUnusable as error:
        return [_difference(address, 0, f"it is of no use: {error}")]
    if snapshot is None:
        return []
    newest = await replayed.newest()
    if snapshot.sequence > newest:
        return [_difference(address, newest, f"it claims to stand at event {snapshot.sequence}, the last is {newest}")]
    try:
        folded = await _fold(bus, aggregate, address, snapshot.sequence, patience)
    except UnreadableEvent as error:
        return [_difference(address, snapshot.sequence, f"there is nothing to compare it with: {error.message}")]
    return [
        differs(SNAPSHOTS, ".".join(address), snapshot.sequence, name, expected, found)
        for name, expected, found in _differing(folded, snapshot)
    ]


async def _fold(bus: Bus, aggregate: Aggregate[Any], address: AggregateId, last: int, patience: float) -> Loaded[Any]:
    """The aggregate from its first event to the stream sequence `last`. Raises UnreadableEvent."""
    loaded = Loaded(aggregate.initial_state())
    clock = asyncio.get_running_loop()
    deadline = clock.time() + patience
    while loaded.sequence < last:
        events, more = await read_history(bus, aggregate_filter(address), after=loaded.sequence)
        for item in events:
            if item.sequence > last:
                return loaded
            loaded.apply(aggregate.evolve, item)
        if not more and loaded.sequence < last:
            if clock.time() > deadline:
                return loaded
            await asyncio.sleep(_POLL_SECONDS)
    return loaded


def _differing(folded: Loaded[Any], snapshot: Loaded[Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in _FIELDS:
        expected, found = getattr(folded, name), getattr(snapshot, name)
        if expected != found:
            yield name, expected, found
    for path, expected, found in compare_json(encode_state(folded.state), encode_state(snapshot.state)):
        yield f"state.{path}" if path else "state", expected, found
    if folded.handled.packed() != snapshot.handled.packed():
        yield "commands", len(folded.handled), len(snapshot.handled)


def _difference(address: AggregateId, sequence: int, message: str) -> Difference:
    return Difference(place=SNAPSHOTS, key=".".join(address), sequence=sequence, message=message)
