"""What agents and servers print, kept in files that cannot grow without end: the node takes it from a pipe."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

import structlog

CHUNK_BYTES = 32 * 1024
"""Read at once. What a server writes is parsed on the event loop: this much takes at most some milliseconds."""
LOG_BYTES = 16 * 1024 * 1024
"""A log that is larger gives way to a new one, and is kept as `.log.1`."""
_BURST_BYTES = 256 * 1024
_PAUSE_SECONDS = 0.25
"""After a burst: who writes more than that waits for the node, not the node for it. A hundred that flood take a quarter
of the loop and hold it for 5 ms at most (measured on 2 cores); with bursts of 1 MiB, two thirds and 240 ms."""
_TAIL_BYTES = 500
_REST_SECONDS = 1.0
_log = structlog.get_logger()


class ProcessLog:
    """What one process prints, from `open` to `close`, appended to a file. It opens `pipe` to write to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pipe = path.with_suffix(".pipe")
        self._start = 0
        self._transport: asyncio.ReadTransport | None = None
        self._keeping: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Make the pipe and read it. Raises OSError."""
        reader = asyncio.StreamReader(limit=CHUNK_BYTES)
        end = await asyncio.to_thread(self._make_pipe)
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), end)
        self._keeping = asyncio.create_task(keep_log(reader, self.path))

    async def close(self) -> None:
        """Take in what is left, once the process has ended: one that left the pipe to another is not waited for."""
        if self._keeping is not None:
            await asyncio.wait([self._keeping], timeout=_REST_SECONDS)
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
        if self._transport is not None:
            self._transport.close()
        self.pipe.unlink(missing_ok=True)

    def tail(self) -> str:
        """The last of what this process has printed, as a part of a message; after `close`."""
        try:
            with self.path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                start = self._start if size >= self._start else 0
                file.seek(max(start, size - _TAIL_BYTES))
                text = file.read(_TAIL_BYTES).decode(errors="replace").strip()
        except FileNotFoundError:
            return ""
        return f"; its log ends: {text}" if text else ""

    def _make_pipe(self) -> BinaryIO:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        begin_log(self.path)
        self._start = self.path.stat().st_size
        self.pipe.unlink(missing_ok=True)
        os.mkfifo(self.pipe, 0o600)
        end = os.open(self.pipe, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        return cast(BinaryIO, os.fdopen(end, "rb", buffering=0))


async def keep_log(output: asyncio.StreamReader, path: Path) -> None:
    """Append all of the output to the file, until its end or until cancelled. What the disk refuses is dropped."""
    read = 0
    while chunk := await output.read(CHUNK_BYTES):
        try:
            _append(path, chunk)
        except OSError as error:
            _log.warning("a log cannot be written", path=str(path), error=str(error))
        read += len(chunk)
        if read >= _BURST_BYTES:
            read = 0
            await asyncio.sleep(_PAUSE_SECONDS)


def begin_log(path: Path) -> None:
    """Let there be the file, with room in it."""
    _append(path, b"")


def remove_old_logs(directory: Path, moment: float) -> None:
    """Delete the logs that were last written to before then, in seconds since 1970; says in the log which it could not.

    Whoever writes again to one begins it anew.
    """
    for path in directory.glob("*.log*"):
        try:
            if path.is_file() and path.stat().st_mtime < moment:
                path.unlink()
        except FileNotFoundError:  # it has just given way to a new one
            continue
        except OSError as error:
            _log.warning("a log is not removed", path=str(path), error=str(error))


def _make_room(path: Path) -> None:
    with suppress(FileNotFoundError):
        if path.stat().st_size > LOG_BYTES:
            path.replace(path.with_name(f"{path.name}.1"))


def _append(path: Path, chunk: bytes) -> None:
    _make_room(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(path, flags, 0o600)
    try:
        os.write(file, chunk)
    finally:
        os.close(file)
