"""The disk quota of one workspace: when it is measured, and what it may take.

A workspace is measured soon after its processes have written, seldom while they only run, and never while they rest; in
threads of its own, of which there are few, and for a small part of the time.
"""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from l02.handlers.sandbox.watch.disk import DEEPEST, TooDeep, disk_usage, written_bytes

DISK_INTERVAL = 2.0
"""Seconds between two looks at whether a workspace is to be measured."""
_SELDOM_SECONDS = 60.0
_REST_PER_WALK = 10.0
_THREADS = 2
_PATIENCE_SECONDS = 1.0


class DiskThreads:
    """The threads of a node that measure. Use it as a context manager."""

    def __enter__(self) -> Self:
        self.executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="disk")
        self.stopped = threading.Event()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopped.set()
        self.executor.shutdown(wait=False, cancel_futures=True)


class Taken(NamedTuple):
    """What a workspace takes, in bytes, and whether that is too much, in words."""

    used: int
    too_much: str | None


class DiskQuota:
    """Of one process. One that begins over its quota may not add to it: so it can make room."""

    def __init__(self, workspace: Path, limit: int) -> None:
        self._workspace = workspace
        self._limit = limit
        self._allowed: int | None = None
        self._written: int | None = None
        self._has_run = self._has_written = True
        self._due_at = 0.0
        self._seldom_at = 0.0
        self._is_measuring = False

    async def begin(self, threads: DiskThreads) -> None:
        """Measure what is there before the process is. What takes long is not waited for."""
        measuring = asyncio.create_task(self.measure([], threads))
        await asyncio.wait({measuring}, timeout=_PATIENCE_SECONDS)

    def is_due(self, pids: list[int], *, has_run: bool) -> bool:
        """Whether to `measure`; `has_run` says whether any of these processes has, since this was asked last."""
        if has_run:
            before, self._written = self._written, written_bytes(pids)
            self._has_run = True
            self._has_written = self._has_written or self._written is None or self._written != before
        now = time.monotonic()
        is_wanted = self._has_written or (self._has_run and now >= self._seldom_at)
        return is_wanted and now >= self._due_at and not self._is_measuring

    async def measure(self, pids: list[int], threads: DiskThreads) -> Taken:
        """Measure it."""
        loop, began = asyncio.get_running_loop(), time.monotonic()
        self._is_measuring, self._has_run, self._has_written = True, False, False
        try:
            used = await loop.run_in_executor(
                threads.executor, disk_usage, self._workspace, pids, self._allowed, threads.stopped
            )
        except TooDeep:
            return Taken(self._limit, f"its workspace is nested deeper than {DEEPEST} directories: it is not measured")
        finally:
            self._is_measuring = False
            now = time.monotonic()
            self._due_at, self._seldom_at = now + _REST_PER_WALK * (now - began), now + _SELDOM_SECONDS
        if self._allowed is not None and used > self._allowed:
            return Taken(used, f"its workspace took {used / (1 << 20):.1f}Mi")
        self._allowed = max(self._limit, used)
        return Taken(used, None)
