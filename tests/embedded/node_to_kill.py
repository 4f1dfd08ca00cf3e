"""The part of a node that owns the servers, as a process of its own: says what runs, then waits to be killed."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import uvloop

from l02.bus.embedded import DataDirectory, EmbeddedServers, ServerError


async def main(path: Path) -> None:
    with DataDirectory(path) as directory:
        async with EmbeddedServers(directory) as servers:
            assert servers.nats is not None and servers.postgres is not None
            facts = {
                "pid": os.getpid(),
                "nats_pid": servers.nats.pid,
                "postgres_pid": servers.postgres.pid,
                "nats_url": servers.nats_url,
                "postgres_url": servers.postgres_url,
            }
            directory.write_runtime_file(facts)
            print(json.dumps(facts), flush=True)
            await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        (uvloop.run if "uvloop" in sys.argv else asyncio.run)(main(Path(sys.argv[1])))
    except ServerError as error:
        sys.exit(f"failed: {error}")
