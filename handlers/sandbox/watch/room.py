"""Keeps the last room on the disk for the runtime: on a full one no command can be stored, not even `terminate`.

Quotas hold each agent; all of them together may still be more than the disk has. So while there is little room, agents
that write are ended, those first that write most: nothing has to be stored for that.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

import structlog

from l02.handlers.sandbox.watch.disk import written_bytes

ROOM_INTERVAL = 0.1
"""Seconds between two looks: a disk that takes a gigabyte a second takes less than half of the room between two."""
_ROOM_BYTES = 256 * 1024 * 1024
_PART_OF_DISK = 16
_WRITTEN_BYTES = 1024 * 1024
"""Who has written less than that since there is little room is left alone."""
_log = structlog.get_logger()


class Writer(Protocol):
    """A process and all that it has started."""

    @property
    def pids(self) -> list[int]: ...

    def end_for_room(self, free: int, needed: int) -> None:
        """End it, as the disk has so many bytes left, and so many are needed."""


class DiskRoom:
    """That of one file system. `free_and_total` says how many bytes of it are free, and how many there are."""

    def __init__(self, path: Path, free_and_total: Callable[[Path], tuple[int, int]] | None = None) -> None:
        self._path = path
        self._free_and_total = free_and_total or _free_and_total
        self._written: dict[Writer, int] | None = None
        """What each had written when little room was seen, or it began later."""

    def look(self, writers: Iterable[Writer]) -> None:
        """If there is little room, end the one of these that has written most since that is so."""
        free, total = self._free_and_total(self._path)
        needed = min(_ROOM_BYTES, total // _PART_OF_DISK)
        if free >= needed:
            if self._written is not None:
                _log.info("agents may write again, there is room on the disk", path=str(self._path))
            self._written = None
            return
        before = self._written
        if before is None:
            _log.error(
                "the disk is nearly full: agents that write are ended until there is room; free some "
                "(docs/operations.md, A disk that is full)",
                path=str(self._path),
                free=f"{free >> 20} MiB",
                needed=f"{needed >> 20} MiB",
            )
        now = {writer: written_bytes(writer.pids) or 0 for writer in writers}
        self._written = {writer: min(written, (before or {}).get(writer, written)) for writer, written in now.items()}
        most = max(now, key=lambda writer: now[writer] - self._since(writer), default=None)
        if most is not None and now[most] - self._since(most) >= _WRITTEN_BYTES:
            most.end_for_room(free, needed)

    def _since(self, writer: Writer) -> int:
        return 0 if self._written is None else self._written[writer]


def _free_and_total(path: Path) -> tuple[int, int]:
    usage = shutil.disk_usage(path)
    return usage.free, usage.total
