"""A process and all it has started: what they have used, and how all of them are stopped and let go on.

Looked at often, for thousands: while no clock of its processes has moved none of them has run, so nothing can have
changed, and a look is one system call each.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from l02.handlers.sandbox.confinement.linux import IS_LINUX, children, read_small
from l02.handlers.sandbox.memory import resident, tree_memory

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_CPU_CLOCK = 2  # CPUCLOCK_SCHED of linux/posix-timers.h: the whole process, to the nanosecond
_STILL = ("T", "t", "Z", "X", "x")
_ROUNDS = 5


class _Status(NamedTuple):
    state: str
    parent: int
    waited_ns: int
    """Of the children that it has waited for, with theirs."""


@dataclass(slots=True)
class _Member:
    parent: int
    state: str
    clock_ns: int
    waited_ns: int


class ProcessTree:
    """Begins when its root does. Elsewhere than on Linux only the memory is known."""

    def __init__(self, root: int, parent: int, *, supervised: bool) -> None:
        """`parent` is that of the root; a root that is `supervised` only looks after the others: it is not stopped, and
        its memory is not counted."""
        self.cpu_ns = 0
        """What all that are there, and those they have waited for, have used of processors."""
        self.memory_bytes = 0
        """Resident; pages that several share count several times, as in every sum of resident sets."""
        self._root, self._parent, self._supervised = root, parent, supervised
        self._members: dict[int, _Member] = {}
        self._expected_ns = 0

    @property
    def pids(self) -> list[int]:
        """Who belonged to it at the last look, parents first."""
        return [*self._members]

    def look(self) -> bool:
        """Bring the figures up to date; whether any of them can have changed."""
        if not IS_LINUX:
            self.memory_bytes = tree_memory(self._root, with_root=not self._supervised)
            return True
        if self._members and all(_clock_ns(pid) == member.clock_ns for pid, member in self._members.items()):
            return False
        self._scan()
        return True

    def stop(self) -> None:
        """Stop all of them, those too that they start meanwhile. What they can undo of it, the next look shows."""
        told: set[int] = set()
        for _ in range(_ROUNDS):
            self._scan()
            running = {pid for pid in self._stoppable() if self._members[pid].state not in _STILL}
            if running <= told:
                return
            self._send([pid for pid in self._stoppable() if pid in running - told], signal.SIGSTOP)
            told |= running

    def go_on(self) -> None:
        """Let all of them go on: children first, so that no parent finds one stopped that it waits for."""
        self._scan()
        self._send(reversed(self._stoppable()), signal.SIGCONT)

    def _stoppable(self) -> list[int]:
        return [pid for pid in self._members if pid != self._root or not self._supervised]

    def _send(self, pids: Iterable[int], number: signal.Signals) -> None:
        for pid in pids:
            _send(pid, self._members[pid].parent, number)

    def _scan(self) -> None:
        """Take account of all that belong to it, and of what those that have gone were counted with.

        A parent that waits for a child is given all the child has used, of which a part was counted already.
        """
        before, members, memory = self._members, {}, 0
        ran = waited = 0
        waiting = [(self._root, self._parent)]
        while waiting:  # rather than calling itself: a chain of processes may be longer than the stack
            pid, parent = waiting.pop()
            status = _status(pid)
            if status is None or status.parent != parent:
                continue  # gone, and its number perhaps another's
            known = before.get(pid)
            clock = _clock_ns(pid)
            members[pid] = _Member(parent, status.state, clock, status.waited_ns)
            ran += max(0, clock - (known.clock_ns if known else 0))
            waited += max(0, status.waited_ns - (known.waited_ns if known else 0))
            if not (self._supervised and pid == self._root):
                memory += resident(pid)
            waiting += [(child, pid) for child in children(pid)]
        gone = sum(member.clock_ns + member.waited_ns for pid, member in before.items() if pid not in members)
        counted = self._expected_ns + gone
        self.cpu_ns += ran + max(0, waited - counted)
        # One that was waited for between the look at its parent and that at itself shows at the next look; and of what
        # was waited for, whole ticks.
        self._expected_ns = min(gone + _TICK_NS, max(0, counted - waited))
        self.memory_bytes = memory
        self._members = members


def _clock_ns(pid: int) -> int:
    """What a process has used of processors, in nanoseconds; -1 if it is gone."""
    try:
        return time.clock_gettime_ns((~pid << 3) | _CPU_CLOCK)
    except OSError:
        return -1


def _status(pid: int) -> _Status | None:
    try:
        fields = read_small(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return _Status(fields[0].decode(), int(fields[1]), (int(fields[13]) + int(fields[14])) * _TICK_NS)


def _send(pid: int, parent: int, number: signal.Signals) -> None:
    """Signal a process if it is this parent's child: its number may have become another's."""
    with suppress(ProcessLookupError, PermissionError):
        descriptor = os.pidfd_open(pid)
        try:
            status = _status(pid)
            if status is not None and status.parent == parent:
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)
