"""Confinement in place: what a forked child does to itself before it runs anybody else's code."""

from __future__ import annotations

import math
import os
import resource
import signal
import site
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType

from l02.handlers.sandbox.confinement import bpf, cgroup, seccomp
from l02.handlers.sandbox.confinement.linux import IS_LINUX, drop_privileges
from l02.handlers.sandbox.confinement.policy import SandboxPolicy

SOCKET_FD = 3
MARK = "L02_SANDBOX"
"""A variable that every process of one node's sandboxes carries, so that the node can find them all."""
FILE_BYTES = 256 * 1024 * 1024
"""The largest file a sandboxed process may write, its log included."""
OPEN_FILES = 1024
SEARCH_PATH = "/usr/local/bin:/usr/bin:/bin"

_SYSTEM_LIBRARIES = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64", "/usr/share/zoneinfo")
# Whom clients of HTTP trust is no secret, and most of them look as soon as they are made.
_CERTIFICATES = ("/etc/ssl/certs", "/etc/pki/tls/certs")
_SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/localtime", "/dev/random", "/dev/urandom", *_CERTIFICATES)
_PROGRAM_TREES = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/opt")
_PROGRAM_FILES = (
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/group",
    "/etc/alternatives",
    "/etc/mime.types",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls/openssl.cnf",
)
_NETWORK_FILES = ("/etc/ca-certificates", "/etc/pki/ca-trust", "/etc/resolv.conf", "/etc/hosts")


def environment(policy: SandboxPolicy) -> dict[str, str]:
    """Make the whole environment of a sandboxed process: nothing of the node's is in it."""
    basis = {
        "PATH": SEARCH_PATH,
        "HOME": policy.workspace,
        "TMPDIR": policy.workspace,
        "LANG": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",  # git stops with an error when it finds an /etc/gitconfig it may not read
    }
    if MARK in os.environ:
        basis[MARK] = os.environ[MARK]
    return basis | policy.environment


def reset_signals() -> None:
    """Give every signal its default effect, as a program that was just executed has it."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)


def keep_only(socket_fd: int) -> None:
    """Move the socket to `SOCKET_FD`, point 0 to 2 at /dev/null and close every other descriptor."""
    os.dup2(socket_fd, SOCKET_FD, inheritable=False)
    os.closerange(SOCKET_FD + 1, os.sysconf("SC_OPEN_MAX"))
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)


def prepare(
    policy: SandboxPolicy, log_path: str | None, *, one_process: bool, control_group: str | None = None
) -> None:
    """Apply what every class gets: log, workspace, environment, limits, no capabilities. Raises OSError.

    What is `one_process` for ever is bounded in its address space, and its node can hold it to its share of all cores.
    Of others, processes may come and go between two looks, so they have no more cores than their share begins; unless
    they are in a `control_group`, in which the kernel holds them to it.
    """
    for path in (*policy.read, *policy.write):
        os.stat(path)  # noqa: PTH116 - raises what says the path; sandlock would only say that it failed
    os.umask(0o077)
    Path(policy.workspace).mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chdir(policy.workspace)
    if log_path is not None:
        log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        # The zygote's own know what it had there, a file perhaps, where now there may be a pipe.
        sys.stdout, sys.stderr = (
            open(number, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
            for number in (1, 2)
        )
    variables = environment(policy)
    os.environ.clear()
    os.environ.update(variables)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, OPEN_FILES)
    _limit(resource.RLIMIT_FSIZE, min(FILE_BYTES, policy.disk_bytes))
    if one_process:
        _limit(resource.RLIMIT_AS, policy.memory_bytes + _address_space())
    if control_group is not None:
        cgroup.enter(control_group)
    elif not one_process:
        _use_cores(math.ceil(policy.cpu_millis / 1000))
    drop_privileges()


def lock_agent(policy: SandboxPolicy, readable: Sequence[str]) -> None:
    """Confine this process, which must be single-threaded, as a `landlock` Python agent, for good."""
    import sandlock

    sandlock.confine(
        sandlock.Sandbox(
            fs_readable=[*readable, *policy.read],
            fs_writable=[policy.workspace, *policy.write, os.devnull],
        )
    )
    bpf.install(seccomp.for_agent(os.getpid()))


def interpreter_paths(modules: Iterable[str]) -> list[str]:
    """List what Python code needs to read to run and import: libraries, and the packages of `modules`."""
    paths = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), sysconfig.get_config_var("LIBDIR")]
    paths += site.getsitepackages()
    for name in {module.partition(".")[0] for module in modules}:
        paths += package_paths(sys.modules[name])
    return _existing([*paths, *_SYSTEM_LIBRARIES, *_SYSTEM_FILES])


def package_paths(package: ModuleType) -> list[str]:
    """List where a package lies: its directories, and what links in them lead to, as in a clone of this project."""
    directories = getattr(package, "__path__", None)
    if directories is None:
        return [str(package.__file__)]
    links = (entry for directory in directories for entry in Path(directory).iterdir() if entry.is_symlink())
    return [*directories, *(str(link.resolve()) for link in links)]


def program_paths(policy: SandboxPolicy, executable: str) -> list[str]:
    """List what a program may read besides its policy: system programs and libraries, Python, and itself."""
    paths = [*_PROGRAM_TREES, *_SYSTEM_FILES, *_PROGRAM_FILES, sys.base_prefix, sys.prefix]
    paths += [executable, str(Path(executable).resolve())]
    if policy.network:
        paths += _NETWORK_FILES
    return _existing(paths)


def holds_socket(paths: Iterable[str]) -> bool:
    """Say whether one of these paths, which exist, is a socket or a directory with one in it."""
    return any(
        path.is_socket() or (path.is_dir() and any(entry.is_socket() for entry in path.iterdir()))
        for path in map(Path, paths)
    )


def _existing(paths: Iterable[str | None]) -> list[str]:
    return sorted({path for path in paths if path and os.path.exists(path)})  # noqa: PTH110


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, value))


def _address_space() -> int:
    """Return the bytes of address space that this process has by now."""
    if not IS_LINUX:
        return 0
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _use_cores(count: int) -> None:
    """Pin this process to `count` of the cores it may use, beginning with a different one for each process."""
    if not IS_LINUX:
        return
    cores = sorted(os.sched_getaffinity(0))
    start = os.getpid() % len(cores)
    os.sched_setaffinity(0, {cores[(start + step) % len(cores)] for step in range(min(count, len(cores)))})
