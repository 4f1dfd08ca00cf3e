"""What a tool server writes on its standard error, kept in a file that cannot grow without end."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path

import structlog

__all__ = ["CHUNK_BYTES", "LOG_BYTES", "begin_log", "keep_log"]

CHUNK_BYTES = 32 * 1024
"""Read at once from a server. What it writes is parsed on the event loop: this much takes at most some milliseconds."""
LOG_BYTES = 16 * 1024 * 1024
"""A log that is larger gives way to a new one, and is kept as `.log.1`."""
_BURST_BYTES = 1024 * 1024
_PAUSE_SECONDS = 0.25
"""After a burst: who writes more than that waits for the node, not the node for it."""
_log = structlog.get_logger()


async def keep_log(output: asyncio.StreamReader, path: Path) -> None:
    """Append all of the output to the file, until its end or until cancelled. What the disk refuses is dropped."""
    read = 0
    while chunk := await output.read(CHUNK_BYTES):
        try:
            _append(path, chunk)
        except OSError as error:
            _log.warning("a tool server's log cannot be written", path=str(path), error=str(error))
        read += len(chunk)
        if read >= _BURST_BYTES:
            read = 0
            await asyncio.sleep(_PAUSE_SECONDS)


def begin_log(path: Path) -> None:
    """Let there be the file, with room in it."""
    _append(path, b"")


def _make_room(path: Path) -> None:
    with suppress(FileNotFoundError):
        if path.stat().st_size > LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))


def _append(path: Path, chunk: bytes) -> None:
    _make_room(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(path, flags, 0o600)
    try:
        os.write(file, chunk)
    finally:
        os.close(file)
