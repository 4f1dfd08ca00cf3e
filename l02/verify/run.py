"""One verification from the first event to the last view."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from l02.bus.connection.bus import Bus
from l02.client.discovery import reaching
from l02.verify.difference import Difference, Report
from l02.verify.replayed import Replayed
from l02.verify.snapshots import compare_snapshots
from l02.verify.tables import open_tables
from l02.verify.views import compare_views

_PATIENCE_SECONDS = 10.0
_REPORT_EVENTS = 2000


class Summary(Struct, frozen=True, kw_only=True):
    """`events` of `aggregates` were replayed; the read models were compared as of `sequence`, or later."""

    sequence: int
    events: int
    aggregates: int
    differences: int


async def verify(
    bus: Bus,
    postgres_url: str,
    report: Report,
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    patience: float = _PATIENCE_SECONDS,
) -> Summary:
    """Replay all events and compare what comes of it with the tables, the live views and the snapshots.

    All goes on meanwhile.

    Each difference is told to `report` when it is found; `on_progress` is told which event of which is replayed. A
    projection gets `patience` seconds to come as far as the log was at the beginning, a replica of the stream too.
    Raises DatabaseUnreachable, PostgreSQL's errors, NodeUnreachable.
    """
    differences = 0

    def count(difference: Difference) -> None:
        nonlocal differences
        differences += 1
        report(difference)

    async with open_tables(postgres_url) as tables:
        replayed = Replayed(bus, count, patience)
        newest = await replayed.newest()
        for step in [*range(_REPORT_EVENTS, newest, _REPORT_EVENTS), newest]:
            await replayed.fold_to(step)
            on_progress(step, newest)
        compared_at = replayed.position
        await tables.compare(replayed, count, patience)
        with reaching():
            await compare_views(bus, replayed, count, patience)
            await compare_snapshots(bus, replayed, count, patience)
    return Summary(
        sequence=compared_at,
        events=replayed.events,
        aggregates=replayed.aggregates,
        differences=differences,
    )
