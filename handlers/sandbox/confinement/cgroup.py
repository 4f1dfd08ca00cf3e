"""Shares of the processors held by the kernel itself: a control group (version 2) for each agent.

Only where the node is given one to divide: a group in which nobody else's processes are, and which it may write to, as
systemd (`Delegate=cpu`) and containers with a writable `/sys/fs/cgroup` give it. The node moves into a group below it,
since one that is divided may hold no processes itself. Elsewhere the node holds agents to their shares (`watch.share`).
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

import psutil
import structlog

_PERIOD_MICROSECONDS = 100_000
_LEAST_MICROSECONDS = 1_000  # the kernel takes no less
_NODE, _AGENT = "l02-node", "l02-agent-"
_ROUNDS = 10
_log = structlog.get_logger()


class ControlGroups:
    """Those of one node's agents, below its own."""

    limit_file = "cpu.max"

    def __init__(self, base: Path) -> None:
        self._base = base
        self._left: set[Path] = set(base.glob(f"{_AGENT}*"))  # by a node that was killed

    def make(self, cpu_millis: int) -> Path:
        """A group for one agent. Raises OSError."""
        group = self._base / f"{_AGENT}{secrets.token_hex(8)}"
        group.mkdir()
        (group / self.limit_file).write_text(self.limit(cpu_millis))
        return group

    def limit(self, cpu_millis: int) -> str:
        """What the kernel is told: so many microseconds in each period."""
        quota = max(cpu_millis * _PERIOD_MICROSECONDS // 1000, _LEAST_MICROSECONDS)
        return f"{quota} {_PERIOD_MICROSECONDS}"

    def leave(self, group: Path) -> None:
        """Its agent has ended; the group goes when the last of its processes is gone."""
        self._left.add(group)
        self.sweep()

    def sweep(self) -> None:
        """Remove the groups that were left and are empty by now."""
        for group in [*self._left]:
            try:
                group.rmdir()
            except FileNotFoundError:
                pass
            except OSError:
                continue  # not empty yet
            self._left.discard(group)


def open_control_groups() -> ControlGroups | None:
    """Divide the node's own group among its agents; None if that is not to be."""
    base = _own_group()
    try:
        if base is None or not is_delegated(base):
            return None
        move_below(base)
        (base / "cgroup.subtree_control").write_text("+cpu")
    except OSError as error:
        _log.info(
            "the node's control group cannot be divided; it holds agents to their shares itself", error=str(error)
        )
        return None
    return ControlGroups(base)


def is_delegated(base: Path) -> bool:
    """Whether this node may divide a group by processor time, and nobody else is in it. Raises OSError."""
    if "cpu" not in (base / "cgroup.controllers").read_text().split() or not os.access(base, os.W_OK):
        return False
    return _processes(base) <= {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}


def move_below(base: Path) -> None:
    """Move all processes of a group into one below it. Raises OSError."""
    own = base / _NODE
    own.mkdir(exist_ok=True)
    for _ in range(_ROUNDS):
        for pid in _processes(base):
            with suppress(ProcessLookupError):
                (own / "cgroup.procs").write_text(str(pid))


def enter(group: str) -> None:
    """Move this process there, with all that it will start. Raises OSError."""
    Path(group, "cgroup.procs").write_text("0")


def _processes(group: Path) -> set[int]:
    return {int(pid) for pid in (group / "cgroup.procs").read_text().split()}


def _own_group() -> Path | None:
    """The directory of this process's group; None where there are no groups of version 2, or it is out of sight."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    except OSError:
        return None
    path = next((line[3:] for line in lines if line.startswith("0::")), None)
    mount = next((fields for fields in mounts if fields[fields.index("-") + 1] == "cgroup2"), None)
    if path is None or mount is None:
        return None
    root, point = mount[3], mount[4]
    if not Path(path).is_relative_to(root) or ".." in Path(path).parts:
        return None
    return Path(point) / Path(path).relative_to(root)
