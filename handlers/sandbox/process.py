"""One sandboxed process, as its node sees it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from l02.domain.agent.resources import ResourceExceeded, ResourceType, threshold_reached
from l02.domain.errors import ErrorCode
from l02.domain.specification import RuntimeClass
from l02.handlers.sandbox.confinement.policy import ProgramEntry, SpawnRequest, format_bytes
from l02.handlers.sandbox.watch.quota import DiskQuota, DiskThreads
from l02.handlers.sandbox.watch.share import EVADED_SECONDS, Share
from l02.handlers.sandbox.watch.tree import ProcessTree
from l02.handlers.sandbox.wire import Died, Operation


class Exit(msgspec.Struct, frozen=True):
    """How a process ended: exactly one of `exit_code` and `signal` is set, and `cause` says it in words.

    `cpu_seconds` includes descendants that were waited for. `memory_peak_bytes` is the largest resident memory of
    the tree that was seen. `exceeded` is the limit that the node killed it for.
    """

    exit_code: int | None
    signal: int | None
    cpu_seconds: float
    memory_peak_bytes: int
    cause: str
    exceeded: ResourceExceeded | None = None


class Threshold(NamedTuple):
    """So many percent of a limit are used; both are in bytes."""

    resource: ResourceType
    used: int
    limit: int
    percent: int


class Figures(NamedTuple):
    """What a process and all it has started take, at the last look."""

    cpu_seconds: float
    memory_bytes: int
    memory_peak_bytes: int


class SandboxedProcess:
    """A process in its sandbox, and the node's end of its socket.

    `socket` is non-blocking and belongs to the caller, who closes it. `pid` is the agent's own, or that of the
    supervisor of a program in class `landlock`.
    """

    def __init__(
        self,
        request: SpawnRequest,
        connection: socket.socket,
        command: Callable[[Operation], None],
        disk: DiskQuota,
    ) -> None:
        self.runtime_class = request.runtime_class
        self.policy = request.policy
        self.control_group = request.control_group
        self.socket = connection
        self.pid = 0
        self._command = command
        self._supervised = isinstance(request.entry, ProgramEntry) and self.runtime_class is RuntimeClass.LANDLOCK
        self._exit: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._tree: ProcessTree | None = None
        self._share: Share | None = None
        self._memory_peak = 0
        self._exceeded: tuple[ResourceExceeded, str] | None = None
        self._warned: dict[ResourceType, int] = {}
        self._disk = disk
        self._has_run = False
        self.on_threshold: Callable[[Threshold], None] = lambda reached: None
        """Told when so much of a limit is used for the first time."""

    def begin(self, pid: int, parent: int) -> None:
        """It runs, as a child of that process; from now on it is watched."""
        self.pid = pid
        self._tree = ProcessTree(pid, parent, supervised=self._supervised)
        self._share = Share(
            self._tree, self.policy.cpu_millis, self._evaded, by_the_kernel=self.control_group is not None
        )

    async def wait(self) -> Exit:
        """Wait until the process has ended. Any number of callers may wait."""
        return await asyncio.shield(self._exit)

    def when_ended(self, tell: Callable[[], None]) -> None:
        """Have `tell` called when it has ended."""
        self._exit.add_done_callback(lambda _: tell())

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self._exit.done()

    def kill(self) -> None:
        """Kill the process and all it has started; harmless once it has ended."""
        self._signal(Operation.KILL)

    def terminate(self) -> None:
        """Ask the process to end (SIGTERM); harmless once it has ended."""
        self._signal(Operation.TERMINATE)

    def memory_bytes(self) -> int:
        """Return the resident memory of the process and all it has started, in bytes; 0 once it has ended."""
        if self.ended or self._tree is None:
            return 0
        self._tree.look()
        return self._tree.memory_bytes

    @property
    def figures(self) -> Figures:
        """What it takes."""
        if self._tree is None:
            return Figures(0.0, 0, 0)
        return Figures(self._tree.cpu_ns / 1e9, self._tree.memory_bytes, self._memory_peak)

    @property
    def stopped_seconds(self) -> float:
        """For how long it has been stopped, to hold it to its share of the processors."""
        return self._share.stopped_seconds if self._share is not None else 0.0

    def watch(self) -> None:
        """Look once at what it takes: kill it if it is over its memory, hold it to its share of the processors."""
        if self.ended or self._tree is None or self._share is None or not self._tree.look():
            return
        used, limit = self._tree.memory_bytes, self.policy.memory_bytes
        self._memory_peak = max(self._memory_peak, used)
        self._has_run = True
        if used > limit:
            cause = f"exceeded its memory limit of {format_bytes(limit)} (resource_limits.memory)"
            self._exceed("memory", ErrorCode.MEMORY_LIMIT_EXCEEDED, limit, used, cause)
        self._warn("memory", used, limit)
        self._share.look()

    @property
    def disk_is_due(self) -> bool:
        """Whether to `watch_disk`, asked every two seconds."""
        if self.ended or self._tree is None:
            return False
        has_run, self._has_run = self._has_run, False
        return self._disk.is_due(self._tree.pids, has_run=has_run)

    async def watch_disk(self, threads: DiskThreads) -> None:
        """Measure the workspace, and kill the process if that takes too much."""
        limit, pids = self.policy.disk_bytes, self._tree.pids if self._tree is not None else []
        used, too_much = await self._disk.measure(pids, threads)
        if too_much is None:
            self._warn("disk", used, limit)
            return
        cause = f"exceeded its disk quota of {format_bytes(limit)} (resource_limits.disk): {too_much}"
        self._exceed("disk", ErrorCode.DISK_LIMIT_EXCEEDED, limit, used, cause)

    @property
    def pids(self) -> list[int]:
        """It and all it has started, as of the last look."""
        return [] if self._tree is None else self._tree.pids

    def end_for_room(self, free: int, needed: int) -> None:
        """Kill it for what it writes, as there is little room on the disk: so many bytes, where more are needed."""
        cause = (
            f"wrote while the disk of its node was nearly full ({format_bytes(free)} were left, and the node keeps "
            f"{format_bytes(needed)} for itself)"
        )
        self._exceed("disk", ErrorCode.DISK_LIMIT_EXCEEDED, self.policy.disk_bytes, needed - free, cause)

    def _warn(self, resource: ResourceType, used: int, limit: int) -> None:
        percent = threshold_reached(used, limit, self._warned.get(resource, 0))
        if percent is not None and used <= limit:
            self._warned[resource] = percent
            self.on_threshold(Threshold(resource, used, limit, percent))

    def _evaded(self, seconds: float) -> None:
        self._exceed(
            "cpu",
            ErrorCode.CPU_LIMIT_EXCEEDED,
            EVADED_SECONDS,
            seconds,
            f"cannot be held to its share of {self.policy.cpu_millis}m (resource_limits.cpu): it used {seconds:.1f} s "
            "of processors while it was stopped",
        )

    def _exceed(self, resource: ResourceType, code: ErrorCode, limit: float, actual: float, cause: str) -> None:
        """Kill it for a limit; what was first is the cause."""
        if self._exceeded is None:
            exceeded = ResourceExceeded(
                resource_type=resource, limit=limit, actual=actual, action_taken="terminate", code=code.value
            )
            self._exceeded = exceeded, cause
        self.kill()

    def died(self, report: Died | None) -> None:
        """Take note of the end: the zygote's report, or None when the zygote itself is gone."""
        if self._exit.done():
            return
        if report is None:
            number, code, cpu, peak = int(signal.SIGKILL), None, 0.0, 0
            cause = "killed together with its zygote"
        else:
            status, cpu, peak = report.status, report.cpu_seconds, report.memory_peak_bytes
            if os.WIFSIGNALED(status):
                number, code = os.WTERMSIG(status), None
                cause = f"killed by {_name(number)}"
            else:
                number, code = None, os.WEXITSTATUS(status)
                cause = f"exited with code {code}"
        if self._supervised:
            peak = 0  # mostly the supervisor's own
        peak, exceeded = max(peak, self._memory_peak), None
        if self._exceeded is not None and number == signal.SIGKILL:
            exceeded, cause = self._exceeded
            if exceeded.resource_type == "memory":
                exceeded = replace(exceeded, actual=peak)
                cause += f"; its peak was {peak / (1 << 20):.1f}Mi"
        if self._share is not None:
            self._share.close()
        self._exit.set_result(Exit(code, number, cpu, peak, cause, exceeded))

    def _signal(self, operation: Operation) -> None:
        if not self.ended:
            self._command(operation)


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
