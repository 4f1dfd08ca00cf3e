"""One sandboxed process, as its node sees it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable

import msgspec

from l02.domain.errors import ErrorCode
from l02.domain.specification import RuntimeClass
from l02.handlers.sandbox.confinement.policy import ProgramEntry, SpawnRequest, format_bytes
from l02.handlers.sandbox.watch.share import Share
from l02.handlers.sandbox.watch.tree import ProcessTree
from l02.handlers.sandbox.wire import Died, Operation


class Exit(msgspec.Struct, frozen=True):
    """How a process ended: exactly one of `exit_code` and `signal` is set, and `cause` says it in words.

    `cpu_seconds` includes descendants that were waited for. `memory_peak_bytes` is the largest resident memory of
    the tree that was seen. `exceeded` is the code of the limit that the node killed it for.
    """

    exit_code: int | None
    signal: int | None
    cpu_seconds: float
    memory_peak_bytes: int
    cause: str
    exceeded: ErrorCode | None = None


class SandboxedProcess:
    """A process in its sandbox, and the node's end of its socket.

    `socket` is non-blocking and belongs to the caller, who closes it. `pid` is the agent's own, or that of the
    supervisor of a program in class `landlock`.
    """

    def __init__(self, request: SpawnRequest, connection: socket.socket, command: Callable[[Operation], None]) -> None:
        self.runtime_class = request.runtime_class
        self.policy = request.policy
        self.socket = connection
        self.pid = 0
        self._command = command
        self._supervised = isinstance(request.entry, ProgramEntry) and self.runtime_class is RuntimeClass.LANDLOCK
        self._exit: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._tree: ProcessTree | None = None
        self._share: Share | None = None
        self._memory_peak = 0
        self._exceeded: tuple[ErrorCode, str] | None = None

    def begin(self, pid: int, parent: int) -> None:
        """It runs, as a child of that process; from now on it is watched."""
        self.pid = pid
        self._tree = ProcessTree(pid, parent, supervised=self._supervised)
        self._share = Share(self._tree, self.policy.cpu_millis, self._evaded)

    async def wait(self) -> Exit:
        """Wait until the process has ended. Any number of callers may wait."""
        return await asyncio.shield(self._exit)

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
    def cpu_seconds(self) -> float:
        """What it and all it has started have used of processors, at the last look."""
        return 0.0 if self._tree is None else self._tree.cpu_ns / 1e9

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
        if used > limit:
            self._exceed(
                ErrorCode.MEMORY_LIMIT_EXCEEDED,
                f"exceeded its memory limit of {format_bytes(limit)} (resource_limits.memory)",
            )
        self._share.look()

    def _evaded(self, seconds: float) -> None:
        millis = self.policy.cpu_millis
        self._exceed(
            ErrorCode.CPU_LIMIT_EXCEEDED,
            f"cannot be held to its share of {millis}m (resource_limits.cpu): it used {seconds:.1f} s of processors "
            "while it was stopped",
        )

    def _exceed(self, code: ErrorCode, cause: str) -> None:
        """Kill it for a limit; what was first is the cause."""
        self._exceeded = self._exceeded or (code, cause)
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
            if exceeded is ErrorCode.MEMORY_LIMIT_EXCEEDED:
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
