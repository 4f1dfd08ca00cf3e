"""The zygote: a small process that has imported what agents need, and forks one whenever its node asks.

A fork of a preloaded interpreter costs a millisecond where a fresh one costs a hundred. The zygote never sees a
request: it passes the agent's socket to the child, which reads its request there, so that no agent's configuration
can be found in the memory of one forked later. It is single-threaded, because only such a process may fork safely.

It is also the guard that no process outlives its node: when the node's end of the control socket closes, for whatever
reason, it kills all it has forked and what they have forked, and ends.
"""

from __future__ import annotations

import gc
import importlib
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from l02.domain.specification import RuntimeClass
from l02.handlers.sandbox import program
from l02.handlers.sandbox.confinement import confine
from l02.handlers.sandbox.confinement.linux import IS_LINUX, adopt_orphans, children, die_with_parent
from l02.handlers.sandbox.confinement.policy import PythonEntry, SpawnRequest
from l02.handlers.sandbox.wire import (
    COMMAND,
    Died,
    Operation,
    Ready,
    Refused,
    Started,
    receive_frame,
    send_frame,
)


class Zygote:
    """Children by the number that the node gave them, and the loop that serves the node."""

    def __init__(self, control: socket.socket, preloaded: Sequence[str]) -> None:
        self._control = control
        self._readable = confine.interpreter_paths(preloaded)
        self._numbers: dict[int, int] = {}  # by process id
        self._pids: dict[int, int] = {}  # by the node's number
        self._wake, self._waker = socket.socketpair()
        for end in (self._wake, self._waker):
            end.setblocking(False)

    def serve(self) -> None:
        """Serve until the node closes its end of the socket."""
        adopt_orphans()
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        send_frame(self._control, Ready(os.getpid()))
        while True:
            readable, _, _ = select.select([self._control, self._wake], [], [])
            if self._wake in readable:
                self._wake.recv(4096)
                self._reap()
            if self._control in readable and not self._obey():
                return

    def kill_all(self) -> None:
        """Kill every descendant and wait until there is none."""
        while True:
            for pid in {*self._numbers, *(children(os.getpid()) if IS_LINUX else ())}:
                _kill(pid, signal.SIGKILL)
            try:
                pid, _, _ = os.wait4(-1, 0)
            except ChildProcessError:
                return
            self._numbers.pop(pid, None)

    def _obey(self) -> bool:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, COMMAND.size, 1)
        except ConnectionError:
            return False
        if len(data) < COMMAND.size:
            return False
        operation, number = COMMAND.unpack(data)
        if operation == Operation.SPAWN:
            self._fork(number, descriptors[0])
        elif number in self._pids:
            pid = self._pids[number]
            _kill(pid, signal.SIGTERM if operation == Operation.TERMINATE else signal.SIGKILL)
        return True

    def _fork(self, number: int, descriptor: int) -> None:
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            with socket.socket(fileno=descriptor) as agent:
                send_frame(agent, Refused(f"the agent's process cannot be forked: {error}"))
            return
        if pid == 0:
            _be_agent(parent, descriptor, self._readable)
        os.close(descriptor)
        self._numbers[pid] = number
        self._pids[number] = pid

    def _reap(self) -> None:
        """Take note of ends. It is woken also when a child is stopped or goes on, for which it does nothing."""
        reaped = 0
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                break
            reaped += 1
            number = self._numbers.pop(pid, None)
            if number is None:
                continue
            del self._pids[number]
            if not IS_LINUX:  # which has no orphans to adopt
                _kill_group(pid)
            scale = 1024 if IS_LINUX else 1  # ru_maxrss is in KiB on Linux, in bytes on macOS
            died = Died(number, status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * scale)
            send_frame(self._control, died)
        if IS_LINUX and reaped:
            self._kill_orphans()

    def _kill_orphans(self) -> None:
        """Kill what dead agents have left behind: the children of this process that it did not fork itself."""
        for pid in children(os.getpid()):
            if pid not in self._numbers:
                _kill(pid, signal.SIGKILL)


def _be_agent(parent: int, descriptor: int, readable: Sequence[str]) -> NoReturn:
    """Become the agent that the request on the socket describes. Runs in the forked child; never returns."""
    status = 1
    try:
        os.setsid()
        die_with_parent(parent, signal.SIGKILL)
        confine.reset_signals()
        confine.keep_only(descriptor)
        agent = socket.socket(fileno=confine.SOCKET_FD)
        request = receive_frame(agent, SpawnRequest)
        status = _start(agent, parent, request, readable)
    except SystemExit as ending:
        status = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _start(agent: socket.socket, parent: int, request: SpawnRequest, readable: Sequence[str]) -> int:
    policy, entry = request.policy, request.entry
    locked = request.runtime_class is RuntimeClass.LANDLOCK
    try:
        one_process = isinstance(entry, PythonEntry) and locked
        confine.prepare(policy, request.log_path, one_process=one_process, control_group=request.control_group)
        if not isinstance(entry, PythonEntry):
            return program.run_on_socket(agent, parent, request.runtime_class, policy, entry.command)
        if locked:
            confine.lock_agent(policy, readable)
        else:
            adopt_orphans()
        module, _, function = entry.target.partition(":")
        call = getattr(importlib.import_module(module), function)
    except Exception as error:
        traceback.print_exc()
        send_frame(agent, Refused(f"{type(error).__name__}: {error}"))
        return 1
    sys.dont_write_bytecode = True
    send_frame(agent, Started(os.getpid()))
    call(agent.detach(), entry.config)
    return 0


def _kill(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # it has just ended by itself, which is what was wanted


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return  # nobody is left in it (macOS says EPERM when only zombies are)


def main(arguments: Sequence[str]) -> None:
    """Run with the control socket's descriptor and the names of modules to import."""
    control = socket.socket(fileno=int(arguments[0]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    preload = [*arguments[1:], *(["sandlock"] if IS_LINUX else [])]
    for module in preload:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    zygote = Zygote(control, preload)
    try:
        zygote.serve()
    except (BrokenPipeError, ConnectionResetError):
        pass  # the node died while it was being told something: the same as the end of its requests
    finally:
        zygote.kill_all()


if __name__ == "__main__":
    main(sys.argv[1:])
