"""nats-server on a disk that fills up, and is emptied: run in a mount namespace of its own, on a small disk."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

from nats.errors import Error as NatsError
from structlog.testing import capture_logs

from l02.bus.connection.bus import connect
from l02.bus.connection.streams import COMMANDS_STREAM, ensure_streams
from l02.bus.embedded import DataDirectory, EmbeddedServers
from l02.domain.aggregates import AGGREGATES


async def main(root: Path) -> None:
    with DataDirectory(root / "data") as directory, capture_logs() as logged:
        async with (
            EmbeddedServers(directory, postgres=False) as servers,
            connect(servers.nats_url, name="test", aggregates=AGGREGATES) as bus,
        ):
            await ensure_streams(bus)

            async def is_stored(number: int) -> bool:
                try:
                    await bus.requests.publish("l02.cmd.agent.a1.signal", str(number).encode(), timeout=1)
                except (NatsError, TimeoutError):
                    return False
                return True

            acknowledged = [number for number in range(20) if await is_stored(number)]
            fill = root / "fill"
            with fill.open("wb") as file:
                try:
                    while True:
                        file.write(bytes(1 << 20))
                        file.flush()
                except OSError:
                    assert shutil.disk_usage(root).free < 1 << 20
            number = 20
            while await is_stored(number):  # what still fits into blocks that were there
                acknowledged.append(number)
                number += 1
            before = servers.nats.pid if servers.nats else 0
            async with asyncio.timeout(30):
                while not any(entry["event"].startswith("the disk is full") for entry in logged):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            fill.unlink()
            async with asyncio.timeout(30):
                while not await is_stored(number + 1):
                    pass
            acknowledged.append(number + 1)
            assert servers.nats is not None and servers.nats.pid != before
            stored = []
            last = (await bus.jetstream.stream_info(COMMANDS_STREAM)).state.last_seq
            for sequence in range(1, last + 1):
                message = await bus.stored(COMMANDS_STREAM, sequence=sequence)
                assert message is not None
                stored.append(int(message.data))
            assert set(acknowledged) <= set(stored) and stored == sorted(stored), (acknowledged, stored)
            print(f"ok {len(acknowledged)}")


asyncio.run(main(Path(sys.argv[1])))
