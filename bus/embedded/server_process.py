"""One run of one server as a child process that cannot outlive this one.

On Linux the kernel stops it when the thread that started it dies, so servers are started from the event loop's
thread. Elsewhere, and for the moments in which that failed, the next node finds it by its pid file.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from l02.bus.background.cancelling import cancellable
from l02.bus.embedded import launcher
from l02.bus.embedded.errors import ServerError
from l02.bus.embedded.private_file import open_private_log

_POLL_SECONDS = 0.01
_LOG_LINES_IN_ERROR = 3
# What a server is given of the node's environment: nothing that could be a secret.
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


@dataclass(frozen=True, slots=True)
class ServerCommand:
    """How a server is run, and how it is ended.

    `identity`: the argument that no other server in the world is given, such as its data directory.
    `stop_signals`: what to send, each with the seconds to wait for it; then SIGKILL.
    `death_signal`: what the kernel sends it when this process dies.
    `owned_directory`: given if the server refuses to run as root; the tree it writes, which may change its owner.
    """

    name: str
    arguments: Sequence[str]
    identity: str
    directory: Path
    stop_signals: Sequence[tuple[signal.Signals, float]]
    death_signal: signal.Signals
    owned_directory: Path | None = None

    @property
    def program(self) -> str:
        return Path(self.arguments[0]).name

    @property
    def log(self) -> Path:
        return self.directory / "server.log"

    @property
    def pid_file(self) -> Path:
        return self.directory / "server.pid"


class ServerProcess:
    """A running server."""

    def __init__(self, command: ServerCommand, process: asyncio.subprocess.Process, log_start: int) -> None:
        self._command = command
        self._process = process
        self._log_start = log_start

    @classmethod
    async def spawn(cls, command: ServerCommand) -> ServerProcess:
        """Start it; it is not ready yet. Raises ServerError if the system refuses."""
        try:
            log = open_private_log(command.log)
        except OSError as error:
            raise ServerError(f"{command.name}: cannot write {command.log}: {error.strerror}") from error
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", launcher.__file__),
                *(str(os.getpid()), str(int(command.death_signal)), str(command.pid_file)),
                *(str(command.owned_directory or ""), *command.arguments),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=command.directory,
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ} | {"LC_ALL": "C"},
                # Ctrl-C in a terminal is for the node, which then stops its servers last.
                start_new_session=True,
            )
            return cls(command, process, os.fstat(log).st_size)
        except OSError as error:
            raise ServerError(f"{command.name} cannot be started: {error}") from error
        finally:
            os.close(log)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait(self) -> int:
        """Wait for its end; return its exit status (negative: the signal that killed it)."""
        return await self._process.wait()

    async def wait_ready(self, is_ready: Callable[[], Awaitable[bool]], timeout: float) -> None:
        """Ask until it is ready, for at most `timeout` seconds. Raises ServerError with the log's last lines."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while not await is_ready():
            if self._process.returncode is not None:
                raise ServerError(f"{self._command.name} ended at its start: {self.last_log_lines()}")
            if loop.time() > deadline:
                raise ServerError(f"{self._command.name} is not ready after {timeout:.0f} s: {self.last_log_lines()}")
            await asyncio.sleep(_POLL_SECONDS)

    async def stop(self) -> None:
        """End it: as gently as it lets itself be ended in time. If cancelled, ends it at once."""
        try:
            for number, seconds in self._command.stop_signals:
                self._send(number)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.wait(), seconds)
                    break
        finally:
            if self._process.returncode is None:
                self._send(signal.SIGKILL)
                await self.wait()
        self._command.pid_file.unlink(missing_ok=True)

    def last_log_lines(self) -> str:
        """The last lines of this run's log, as one line."""
        with self._command.log.open("rb") as file:
            file.seek(max(self._log_start, file.seek(0, os.SEEK_END) - 16_384))
            lines = file.read().decode(errors="replace").splitlines()
        text = " | ".join(line.strip() for line in lines[-_LOG_LINES_IN_ERROR:] if line.strip())
        return f"{text or 'it wrote nothing'} (more in {self._command.log})"

    def _send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)


async def run_to_end(command: ServerCommand, timeout: float) -> None:
    """Run a program that ends by itself, within `timeout` seconds. Raises ServerError if it fails."""
    process = await ServerProcess.spawn(command)
    try:
        status = await cancellable(asyncio.wait_for(process.wait(), timeout))
        if status != 0:
            raise ServerError(f"{command.name} failed with status {status}: {process.last_log_lines()}")
    except TimeoutError as error:
        raise ServerError(f"{command.name} takes over {timeout:.0f} s: {process.last_log_lines()}") from error
    finally:
        await process.stop()


async def stop_leftover(command: ServerCommand) -> bool:
    """End the server which a killed node left on this directory; return whether there was one.

    The caller holds the data directory's lock, so no living node owns it. Another process may have got its number
    since, so it must have that server's name and identity.
    """
    try:
        process = psutil.Process(int(command.pid_file.read_text()))
        arguments = process.cmdline()
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess, psutil.AccessDenied):
        return False
    if not (command.identity in arguments and command.program in map(os.path.basename, arguments)):
        return False
    for number, seconds in (*command.stop_signals, (signal.SIGKILL, 10.0)):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
        deadline = asyncio.get_running_loop().time() + seconds
        # Nothing reports the end of another process's child.
        while _is_alive(process) and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_SECONDS)
        if not _is_alive(process):
            return True
    raise ServerError(f"{command.name} of a former node does not end; kill process {process.pid}")


def _is_alive(process: psutil.Process) -> bool:
    # A zombie is dead; where process 1 collects none, as in many containers, it is all that is left of it.
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
