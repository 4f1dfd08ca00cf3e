"""One sandboxed process, as its node sees it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable

import msgspec

from l02.domain.specification import RuntimeClass
from l02.handlers.sandbox.confinement.policy import ProgramEntry, SpawnRequest, format_bytes
from l02.handlers.sandbox.memory import tree_memory
from l02.handlers.sandbox.wire import Died, Operation


class Exit(msgspec.Struct, frozen=True):
    """How a process ended: exactly one of `exit_code` and `signal` is set, and `cause` says it in words.

    `cpu_seconds` includes descendants that were waited for. `memory_peak_bytes` is the largest resident memory of
    the tree that was seen. `memory_exceeded` means that the node killed it for its memory limit.
    """

    exit_code: int | None
    signal: int | None
    cpu_seconds: float
    memory_peak_bytes: int
    cause: str
    memory_exceeded: bool = False


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
        self._memory_peak = 0
        self._memory_exceeded = False

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
        return 0 if self.ended or not self.pid else tree_memory(self.pid, with_root=not self._supervised)

    def watch_memory(self) -> None:
        """Look at the memory once, and kill the process if it is over its limit."""
        used = self.memory_bytes()
        self._memory_peak = max(self._memory_peak, used)
        if used > self.policy.memory_bytes:
            self._memory_exceeded = True
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
        if self._memory_exceeded and number == signal.SIGKILL:
            cause = f"exceeded its memory limit of {format_bytes(self.policy.memory_bytes)}"
        exceeded = self._memory_exceeded and number == signal.SIGKILL
        if self._supervised:
            peak = 0  # mostly the supervisor's own
        self._exit.set_result(Exit(code, number, cpu, max(peak, self._memory_peak), cause, exceeded))

    def _signal(self, operation: Operation) -> None:
        if not self.ended:
            self._command(operation)


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
