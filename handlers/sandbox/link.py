"""The node's side of one zygote: requests in, processes out, and every end reported, also the zygote's own."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import socket
import sys
from collections import deque
from collections.abc import Sequence
from typing import TypeVar

import msgspec
import psutil

from l02.domain.errors import ErrorCode, Failure
from l02.handlers.sandbox.confinement.confine import MARK, SEARCH_PATH
from l02.handlers.sandbox.confinement.policy import SpawnRequest
from l02.handlers.sandbox.process import SandboxedProcess
from l02.handlers.sandbox.watch.quota import DiskQuota
from l02.handlers.sandbox.wire import (
    COMMAND,
    LENGTH,
    Answer,
    Died,
    Operation,
    Ready,
    Refused,
    Report,
    encode_frame,
)

START_SECONDS = 30.0
"""How long the zygote may take to import its modules, and a child to confine itself."""

T = TypeVar("T")


class ZygoteLink:
    """One zygote and the processes it has forked. Made by `start`; `closed` once the zygote is gone."""

    def __init__(self, zygote: asyncio.subprocess.Process, control: socket.socket, mark: str) -> None:
        self.zygote = zygote
        self.processes: dict[int, SandboxedProcess] = {}
        self.closed = False
        self._control = control
        self._mark = mark
        self._numbers = itertools.count(1)
        self._outbox: deque[tuple[bytes, socket.socket | None]] = deque()
        self._reader: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, preload: Sequence[str]) -> ZygoteLink:
        """Start a zygote. Raises Failure(E2041) if it does not come up."""
        mark = secrets.token_hex(16)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            zygote = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "l02.handlers.sandbox.zygote",
                str(theirs.fileno()),
                *preload,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=_zygote_environment(mark),
                start_new_session=True,
            )
        link = cls(zygote, ours, mark)
        try:
            async with asyncio.timeout(START_SECONDS):
                await _receive_frame(ours, Ready)
        except (TimeoutError, EOFError, OSError) as error:
            await link.close()
            code = zygote.returncode
            raise Failure(
                ErrorCode.SANDBOX_CREATION_FAILED,
                f"the zygote did not start ({type(error).__name__}, exit code {code}); its error output says why",
            ) from error
        except BaseException:
            await link.close()
            raise
        link._reader = asyncio.create_task(link._read(), name="zygote reports")
        return link

    async def spawn(self, request: SpawnRequest, disk: DiskQuota) -> SandboxedProcess:
        """Have a process forked and confined, and return it when its entry is about to run.

        Raises Failure(E2041) if that does not succeed; nothing is left behind then, nor when cancelled.
        """
        number = next(self._numbers)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        process = SandboxedProcess(request, ours, lambda operation: self._send(operation, number), disk)
        self.processes[number] = process
        self._send(Operation.SPAWN, number, theirs)
        try:
            async with asyncio.timeout(START_SECONDS):
                await asyncio.get_running_loop().sock_sendall(ours, encode_frame(request))
                answer: Answer = await _receive_frame(ours, Answer)  # type: ignore[arg-type]
        except (TimeoutError, EOFError, OSError) as error:
            self._abandon(process)
            raise Failure(
                ErrorCode.SANDBOX_CREATION_FAILED,
                f"the sandboxed process ended before it was ready ({error}); its log says why",
            ) from error
        except BaseException:
            self._abandon(process)
            raise
        if isinstance(answer, Refused):
            self._abandon(process)
            raise Failure(ErrorCode.SANDBOX_CREATION_FAILED, answer.reason)
        process.begin(answer.pid, self.zygote.pid)
        return process

    async def close(self) -> None:
        """End the zygote and all its processes, and wait until they are gone."""
        if self._reader is None:
            self._control.close()
            if self.zygote.returncode is None:
                self.zygote.kill()  # it has not come as far as listening, and has no children
            await self._zygote_gone()
            return
        if not self.closed:
            self._control.shutdown(socket.SHUT_RDWR)
        await self._reader

    def _abandon(self, process: SandboxedProcess) -> None:
        process.kill()
        process.socket.close()

    def _send(self, operation: Operation, number: int, passed: socket.socket | None = None) -> None:
        if self.closed:
            if passed is not None:
                passed.close()
            return
        self._outbox.append((COMMAND.pack(operation, number), passed))
        self._flush()

    def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while self._outbox:
            command, passed = self._outbox[0]
            try:
                socket.send_fds(self._control, [command], [] if passed is None else [passed.fileno()])
            except BlockingIOError:
                loop.add_writer(self._control, self._flush)
                return
            except OSError:
                self._drop_outbox()  # the zygote is gone, which the reader reports
                return
            self._outbox.popleft()
            if passed is not None:
                passed.close()
        loop.remove_writer(self._control)

    def _drop_outbox(self) -> None:
        for _, passed in self._outbox:
            if passed is not None:
                passed.close()
        self._outbox.clear()

    async def _read(self) -> None:
        try:
            while True:
                report: Report = await _receive_frame(self._control, Report)  # type: ignore[arg-type]
                if isinstance(report, Died):
                    process = self.processes.pop(report.number, None)
                    if process is not None:
                        process.died(report)
        except (EOFError, OSError):
            pass  # the zygote is gone
        finally:
            self.closed = True
            asyncio.get_running_loop().remove_writer(self._control)
            self._control.close()
            self._drop_outbox()
            await self._zygote_gone()

    async def _zygote_gone(self) -> None:
        self.closed = True
        code = await self.zygote.wait()
        if code != 0:  # it did not come to killing its children itself
            await asyncio.to_thread(_kill_marked, self._mark)
        for process in self.processes.values():
            process.died(None)
        self.processes.clear()


def _zygote_environment(mark: str) -> dict[str, str]:
    """Make the zygote's environment: nothing of the node's, for every agent has a copy in its memory.

    Hashes of strings are the same in every process, so that an agent which runs again walks its sets in the same order.
    """
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return {MARK: mark, "PATH": SEARCH_PATH, "LANG": "C.UTF-8", "PYTHONPATH": path, "PYTHONHASHSEED": "0"}


def _kill_marked(mark: str) -> None:
    """Kill every process that carries the mark, until there is none."""
    found = True
    while found:
        found = False
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                    process.kill()
                    found = True
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue  # gone, or another user's and so not ours


async def _receive_frame(connection: socket.socket, kind: type[T]) -> T:
    (size,) = LENGTH.unpack(await _receive(connection, LENGTH.size))
    return msgspec.json.decode(await _receive(connection, size), type=kind)


async def _receive(connection: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = bytearray()
    while len(data) < size:
        part = await loop.sock_recv(connection, size - len(data))
        if not part:
            raise EOFError("the other side closed the socket")
        data += part
    return bytes(data)
