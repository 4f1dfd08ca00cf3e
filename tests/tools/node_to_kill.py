"""A node of its own process for the test that kills it: starts two tool servers, says so, and waits."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from l02.handlers.tool_servers import ToolServers
from tests.tools.conftest import ROGUE, specification


async def main(directory: Path) -> None:
    async with ToolServers(directory / "scratch", directory / "logs") as servers:
        await servers.tools(ROGUE)
        await servers.tools(specification("rogue", "stubborn"))
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
