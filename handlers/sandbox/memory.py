"""Memory of a process and all below it, read often and therefore cheaply: resident, swapped out, and its tables."""

from __future__ import annotations

import re

from l02.handlers.sandbox.confinement.linux import IS_LINUX, children, read_small

_HELD = re.compile(rb"^Vm(?:RSS|Swap|PTE):\s*(\d+) kB$", re.MULTILINE)


def tree_memory(root: int, *, with_root: bool = True) -> int:
    """Return the bytes that a process and its descendants hold; 0 once it is gone.

    Pages that several of them share count several times, as in every sum of resident sets.
    """
    if not IS_LINUX:
        return _portable(root)
    total = resident(root) if with_root else 0
    waiting = children(root)
    while waiting:  # rather than calling itself: a chain of processes may be longer than the stack
        pid = waiting.pop()
        total += resident(pid)
        waiting += children(pid)
    return total


def resident(pid: int) -> int:
    """Return the bytes of one process that are resident or swapped out, with their page tables; 0 once it is gone."""
    try:
        status = read_small(f"/proc/{pid}/status")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(map(int, _HELD.findall(status))) * 1024


def _portable(root: int) -> int:
    import psutil

    try:
        process = psutil.Process(root)
        tree = [process, *process.children(recursive=True)]
        return sum(member.memory_info().rss for member in tree)
    except psutil.NoSuchProcess:
        return 0
