"""A process that projects until it is killed. Arguments: the URLs of NATS and PostgreSQL."""

from __future__ import annotations

import asyncio
import sys

from l02.bus.connection.bus import connect
from l02.domain.aggregates import AGGREGATES
from l02.projections.projector.progress import Progress
from l02.projections.tables.projector import TableProjector
from l02.projections.views.projector import ViewProjector


async def main(nats_url: str, postgres_url: str) -> None:
    async with connect(nats_url, name="to be killed", aggregates=AGGREGATES) as bus, asyncio.TaskGroup() as tasks:
        progress = Progress()
        tasks.create_task(TableProjector(bus, postgres_url, progress, transaction_events=1).run())
        tasks.create_task(ViewProjector(bus, progress).run())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
