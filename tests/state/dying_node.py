"""A node that kills itself where a test wants it to die. Arguments: the place, and its data directory.

The servers and settings are taken from the environment, as by `l02 up`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from l02.handlers.state import retention
from l02.handlers.state.checkpoints import Checkpoints
from l02.handlers.state.stores.postgres import PostgresCheckpoints
from l02.node.running import running_node
from l02.node.settings import Settings

PLACES: dict[str, tuple[Any, str]] = {
    "before it is stored": (PostgresCheckpoints, "save"),
    "before it is reported": (Checkpoints, "_report"),
    "before its timer is set": (retention, "set_timer"),
    "before it is deleted": (PostgresCheckpoints, "delete"),
    "before it is read": (PostgresCheckpoints, "load"),
}


async def die(*arguments: Any, **more: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def main(place: str, data_dir: str) -> None:
    owner, method = PLACES[place]
    setattr(owner, method, die)
    async with running_node(Settings.from_environment(data_dir=Path(data_dir))):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
