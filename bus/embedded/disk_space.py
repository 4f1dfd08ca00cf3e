"""A full disk is said once, and once there is room again, what does not recover by itself is told.

nats-server keeps on failing after a write that found no room, until it is started anew; nothing that it acknowledged
is lost by either.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import structlog

_LOOK_SECONDS = 1.0
_FULL_BYTES = 4 * 1024 * 1024
_ROOM_BYTES = 64 * 1024 * 1024
_log = structlog.get_logger()


async def watch_disk_space(path: Path, on_room_again: Callable[[], None]) -> None:
    """Look at the file system of `path` once a second, until cancelled."""
    was_full = False
    while True:
        free = shutil.disk_usage(path).free
        if not was_full and free < _FULL_BYTES:
            was_full = True
            _log.error(
                "the disk is full; commands wait until there is room: free some",
                path=str(path),
                needed=f"{_ROOM_BYTES // 1024**2} MiB",
            )
        elif was_full and free > _ROOM_BYTES:
            was_full = False
            _log.info("there is room on the disk again", path=str(path))
            on_room_again()
        await asyncio.sleep(_LOOK_SECONDS)
