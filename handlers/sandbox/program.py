"""Programs in sandboxes: arbitrary executables, which sandlock supervises while they run.

Used in two ways. The zygote's child turns into a program's supervisor with `run_on_socket`. And `program_argv` gives
an argument vector that anything can execute, such as an MCP client: it runs this module as a guard, which forks the
supervisor. Guard and supervisor each kill all descendants when the other dies, and the guard also when its own
parent does, so that no single SIGKILL leaves a process behind.
"""

from __future__ import annotations

import os
import secrets
import select
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

import msgspec

from l02.domain.specification import RuntimeClass
from l02.handlers.sandbox.confinement import bpf, confine, seccomp
from l02.handlers.sandbox.confinement.linux import (
    IS_LINUX,
    adopt_orphans,
    children,
    die_with_parent,
    forbid_tcp,
    in_forked_children,
)
from l02.handlers.sandbox.confinement.policy import SandboxPolicy, format_bytes
from l02.handlers.sandbox.memory import tree_memory
from l02.handlers.sandbox.wire import Started, send_frame

if TYPE_CHECKING:
    import sandlock

SOCKET_VARIABLE = "L02_FD"
VARIABLE_PREFIX = "L02_ENV_"
MEMORY_INTERVAL = 0.25
"""Seconds between two looks at a program's memory."""


class _Launch(msgspec.Struct, frozen=True):
    parent: int
    runtime_class: RuntimeClass
    policy: SandboxPolicy
    command: tuple[str, ...]


def program_argv(runtime_class: RuntimeClass, policy: SandboxPolicy, command: Sequence[str]) -> list[str]:
    """Make the argument vector that runs `command` in a sandbox of its own, with standard streams inherited.

    It must be started with `program_environment(policy)` in its environment: arguments can be read by every user of
    the machine, so the values of the policy's variables are not among them. The program sees none of the other
    variables that it is started with. It exits as the program does, and lives no longer than this process, which must
    be the one that starts it.
    """
    shown = msgspec.structs.replace(policy, environment=dict.fromkeys(policy.environment, ""))
    launch = msgspec.json.encode(_Launch(os.getpid(), runtime_class, shown, tuple(command))).decode()
    return [sys.executable, "-I", "-m", "l02.handlers.sandbox.program", launch]


def program_environment(policy: SandboxPolicy) -> dict[str, str]:
    """Make the variables that `program_argv`'s command needs to be started with."""
    return {VARIABLE_PREFIX + name: value for name, value in policy.environment.items()}


def run_on_socket(
    agent: socket.socket,
    parent: int,
    runtime_class: RuntimeClass,
    policy: SandboxPolicy,
    command: Sequence[str],
) -> int:
    """Run `command` with the agent's socket as its standard input, in a child of the zygote prepared already.

    sandlock closes every descriptor of a program but the standard streams, so the socket is the one that is not
    written to by accident. Returns the exit code; raises OSError if the program cannot be started.
    """
    os.environ[SOCKET_VARIABLE] = "0"
    os.dup2(agent.fileno(), 0)
    executable = _find(command)
    if runtime_class is RuntimeClass.PROCESS:
        send_frame(agent, Started(os.getpid()))
        adopt_orphans()
        os.execv(executable, list(command))  # noqa: S606

    def started() -> None:
        send_frame(agent, Started(os.getpid()))
        agent.close()

    return _supervise(parent, policy, executable, command, started=started)


def _find(command: Sequence[str]) -> str:
    if not command:
        raise FileNotFoundError("the command is empty")
    executable = shutil.which(command[0])
    if executable is None:
        raise FileNotFoundError(f"no program {command[0]!r} is on PATH {os.environ['PATH']!r}")
    return os.path.abspath(executable)  # noqa: PTH100 - a virtual environment's python must stay a symbolic link


class _Signals:
    """Signals as something to wait for beside descriptors."""

    def __init__(self, *numbers: signal.Signals) -> None:
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        self._waker.setblocking(False)
        for number in numbers:
            signal.signal(number, lambda *_: None)
            signal.siginterrupt(number, False)  # sandlock gives up what is interrupted
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)

    def wait(self, seconds: float | None = None) -> list[int]:
        """Wait for signals, at most so long, and return their numbers."""
        readable, _, _ = select.select([self._wake], [], [], seconds)
        return list(self._wake.recv(4096)) if readable else []

    def wake(self) -> None:
        self._waker.send(b"\0")


_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def _supervise(
    parent: int,
    policy: SandboxPolicy,
    executable: str,
    command: Sequence[str],
    *,
    started: Callable[[], None] | None = None,
) -> int:
    """Run a program under sandlock until it ends, and end as it did. This process is single-threaded before.

    `started` is called just before it runs. Without it nobody else watches the program's memory, so this does.
    """
    import sandlock

    adopt_orphans()
    signals = _Signals(*_FORWARDED)
    die_with_parent(parent, signal.SIGTERM)  # in place of SIGKILL: the supervisor has descendants to take along
    network = bool(policy.network)
    filter_of_program = seccomp.for_program(network=network, unix=confine.holds_socket(policy.write))

    def confine_program() -> None:
        confine.reset_signals()
        forbid_tcp()  # sandlock connects in its place, to what it may reach
        bpf.install(filter_of_program)

    in_forked_children(confine_program)
    bpf.install(seccomp.for_supervisor(network=network))
    variables = dict(os.environ)
    os.environ.clear()
    sandbox = sandlock.Sandbox(
        fs_readable=[*confine.program_paths(policy, executable), *policy.read],
        fs_writable=[policy.workspace, *policy.write, os.devnull],
        net_allow=[f"tcp://{destination}" for destination in policy.network],
        extra_deny_syscalls=list(seccomp.UNTIL_CONFINED),
        max_processes=policy.max_processes,
        env=variables,
        cwd=policy.workspace,
        no_coredump=True,
        name=f"l02-{secrets.token_hex(8)}",
    )
    if started is not None:
        started()  # before the program can write to the socket itself
    running = sandbox.popen([executable, *command[1:]])
    if started is not None:
        # The program alone holds its socket, so that the node sees it when the program closes it.
        os.dup2(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), 0)
    results: list[sandlock.Result] = []

    def wait() -> None:
        results.append(running.wait())
        signals.wake()

    threading.Thread(target=wait, daemon=True).start()
    pid = running.pid
    while not results:
        received = signals.wait(None if started else MEMORY_INTERVAL)
        if os.getppid() != parent:
            break
        if not started and _is_over_its_memory(policy):
            break
        for number in set(received).intersection(_FORWARDED):
            if pid is not None:
                _signal_group(pid, number)
    result = results[0] if results else None
    _kill_descendants()
    if result is None:
        return 128 + signal.SIGKILL
    if result.reason != sandlock.ExitReason.EXITED:
        # sandlock gives -1 for a program killed by SIGKILL.
        _die_of(result.signal if result.signal and result.signal > 0 else signal.SIGKILL)
    return int(result.exit_code)


def _guard(launch: _Launch) -> int:
    """Fork the supervisor (or the program, in class `process`), and see to it that no descendant survives it.

    A program without a supervisor has nobody else who watches its memory.
    """
    parent = launch.parent
    adopt_orphans()
    signals = _Signals(*_FORWARDED, signal.SIGCHLD)
    die_with_parent(parent, signal.SIGTERM)
    guard = os.getpid()
    pid = os.fork()
    if pid == 0:
        _be_program(guard, launch)
    supervised = launch.runtime_class is RuntimeClass.LANDLOCK
    while True:
        received = signals.wait(None if supervised else MEMORY_INTERVAL)
        status = _reap(pid)
        if status is not None:
            _kill_descendants()
            if os.WIFSIGNALED(status):
                _die_of(os.WTERMSIG(status))
            return os.waitstatus_to_exitcode(status)
        if os.getppid() != parent:
            _kill_descendants()
            return 1
        if not supervised and _is_over_its_memory(launch.policy):
            _kill_descendants()
            return 128 + signal.SIGKILL
        for number in set(received).intersection(_FORWARDED):
            os.kill(pid, number)


def _be_program(guard: int, launch: _Launch) -> NoReturn:
    status = 1
    try:
        os.setsid()
        die_with_parent(guard, signal.SIGKILL)
        confine.reset_signals()
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        policy = launch.policy
        locked = launch.runtime_class is RuntimeClass.LANDLOCK
        confine.prepare(policy, None, one_process=False)
        executable = _find(launch.command)
        if not locked:
            os.execv(executable, list(launch.command))  # noqa: S606
        status = _supervise(guard, policy, executable, launch.command)
    except OSError as error:
        _complain(str(error))
    finally:
        os._exit(status)


def _is_over_its_memory(policy: SandboxPolicy) -> bool:
    """Whether all below this process has more than may be resident; says so if it has."""
    if tree_memory(os.getpid(), with_root=False) <= policy.memory_bytes:
        return False
    _complain(f"killed, for it exceeded its memory limit of {format_bytes(policy.memory_bytes)}")
    return True


def _complain(message: str) -> None:
    sys.stderr.write(f"sandbox: {message}\n")
    sys.stderr.flush()


def _reap(wanted: int) -> int | None:
    """Reap every dead child; return the status of one of them if it is among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == wanted:
            found = status


def _kill_descendants() -> None:
    """Kill all children until there is none: those of a dead child become this process's own."""
    while IS_LINUX:
        for pid in children(os.getpid()):
            _signal(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # it has just ended


def _signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return  # it has just ended


def _die_of(number: int) -> NoReturn:
    """End by the same signal as the program, so that whoever waits sees what happened."""
    signal.set_wakeup_fd(-1)
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)


def main(arguments: Sequence[str], variables: Mapping[str, str]) -> int:
    """Run the program of `program_argv`."""
    launch = msgspec.json.decode(arguments[0], type=_Launch)
    policy = launch.policy
    try:
        values = {name: variables[VARIABLE_PREFIX + name] for name in policy.environment}
    except KeyError as missing:
        _complain(f"start this with program_environment(policy): {missing} is not set")
        return 78  # EX_CONFIG
    return _guard(msgspec.structs.replace(launch, policy=msgspec.structs.replace(policy, environment=values)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
