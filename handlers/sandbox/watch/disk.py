"""What a workspace takes on disk, however hostile it is: measured in a thread, by a walk that ends.

Every file and directory counts as a block of 4 KiB at least, so a walk that stops at a quota is bounded by it, and so
is the number of files. What is walked may change meanwhile; what has gone since counts no more.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from l02.handlers.sandbox.confinement.linux import IS_LINUX, read_small

DEEPEST = 128
"""Levels of directories: each that is walked is an open file of the node's."""
BLOCK = 4096
_UNIT = 512  # of st_blocks, whatever the file system's own is
_ENTRIES_A_TURN = 500
_REST_PER_TURN = 2.0
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class TooDeep(Exception):
    """Directories are nested deeper than can be measured."""


def disk_usage(
    workspace: Path, pids: Iterable[int], enough: int | None = None, stopped: threading.Event | None = None
) -> int:
    """The bytes that a workspace takes on disk, and what its processes hold open there without a name.

    As soon as they are more than `enough` the rest does not matter. Other threads are given two thirds of the time.
    Ends early, with what was found, once it is `stopped`. Raises TooDeep.
    """
    counting = _Counting(enough, stopped or threading.Event())
    try:
        root = os.open(workspace, _DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    try:
        device = os.fstat(root).st_dev
        if not counting.is_enough:
            _walk(root, counting)
    finally:
        os.close(root)
    for pid in pids:
        _count_unnamed(pid, device, counting)
    return counting.total


def written_bytes(pids: Iterable[int]) -> int | None:
    """A figure that changes whenever these processes write to files; None if it is not to be had."""
    try:
        fields = [line.split() for pid in pids for line in read_small(f"/proc/{pid}/io").splitlines()]
    except OSError:
        return None
    return sum(int(value) for name, value in fields if name in (b"wchar:", b"write_bytes:"))


class _Counting:
    def __init__(self, enough: int | None, stopped: threading.Event) -> None:
        self.total = 0
        self._enough = enough
        self._stopped = stopped
        self._linked: set[int] = set()
        self._turn_began = time.monotonic()
        self._entries = 0

    @property
    def is_enough(self) -> bool:
        return self._stopped.is_set() or (self._enough is not None and self.total > self._enough)

    def take(self, found: os.stat_result) -> None:
        """Count a file or directory, once whatever the number of its names."""
        if found.st_nlink != 1 and not stat.S_ISDIR(found.st_mode):
            if found.st_ino in self._linked:
                return
            self._linked.add(found.st_ino)
        self.total += max(found.st_blocks * _UNIT, BLOCK)
        self._entries += 1
        if self._entries % _ENTRIES_A_TURN == 0:
            self._stopped.wait(_REST_PER_TURN * (time.monotonic() - self._turn_began))
            self._turn_began = time.monotonic()


def _walk(root: int, counting: _Counting) -> None:
    """Depth first, each directory opened in the one above it: no name leads out, and no path is too long."""
    levels = [(os.dup(root), _look(root, counting))]
    try:
        while levels and not counting.is_enough:
            directory, names = levels[-1]
            if not names:
                levels.pop()
                os.close(directory)
                continue
            below = _open(names.pop(), directory)
            if below is None:
                continue
            if len(levels) == DEEPEST:
                os.close(below)
                raise TooDeep
            levels.append((below, []))
            levels[-1] = (below, _look(below, counting))
    finally:
        for directory, _ in levels:
            os.close(directory)


def _look(directory: int, counting: _Counting) -> list[str]:
    """Count what is in a directory; the names of the directories in it."""
    below = []
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(directory) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                found = entry.stat(follow_symlinks=False)
                counting.take(found)
                if stat.S_ISDIR(found.st_mode):
                    below.append(entry.name)
            if counting.is_enough:
                break
    return below


def _open(name: str, directory: int) -> int | None:
    """A directory in another; None if it is there no more. One that may not be read is made readable to its owner."""
    try:
        return os.open(name, _DIRECTORY, dir_fd=directory)
    except PermissionError:
        return _opened_all_the_same(name, directory)
    except OSError:
        return None


def _opened_all_the_same(name: str, directory: int) -> int | None:
    if not IS_LINUX:
        return None
    try:
        found = os.open(name, os.O_PATH | _DIRECTORY, dir_fd=directory)
    except OSError:
        return None
    try:
        itself = f"/proc/self/fd/{found}"
        Path(itself).chmod(os.fstat(found).st_mode & 0o777 | 0o500)
        return os.open(itself, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    finally:
        os.close(found)


def _count_unnamed(pid: int, device: int, counting: _Counting) -> None:
    """Files that were deleted while a process has them open take their place until it closes them."""
    with suppress(OSError), os.scandir(f"/proc/{pid}/fd") as descriptors:
        for descriptor in descriptors:
            with suppress(FileNotFoundError):
                found = descriptor.stat()
                if stat.S_ISREG(found.st_mode) and found.st_nlink == 0 and found.st_dev == device:
                    counting.take(found)
