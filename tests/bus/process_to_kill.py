"""A process that handles commands until it is killed. Arguments: the server's URL."""

from __future__ import annotations

import asyncio
import sys

from bus.commands import CommandProcessor
from bus.connection import connect
from bus.event_store import open_event_store
from bus.repository import Repository
from tests.bus.toy import TOY


async def main(url: str) -> None:
    async with connect(url, name="to kill") as bus, open_event_store(bus) as store:
        print("ready", flush=True)
        await CommandProcessor(bus, {TOY.name: Repository(TOY, store)}, "n1").run()


asyncio.run(main(sys.argv[1]))
