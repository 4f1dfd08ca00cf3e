"""The calls of Linux that Python's standard library lacks: prctl, capabilities, Landlock's network, forks not its own.

Importing this is harmless elsewhere; calling is not, so callers look at `IS_LINUX` first.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct
import sys
from collections.abc import Callable

IS_LINUX = sys.platform == "linux"

_LIBC = ctypes.CDLL(None, use_errno=True)

_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_CAPABILITY_VERSION_3 = 0x20080522
_SYS_LANDLOCK_CREATE_RULESET, _SYS_LANDLOCK_RESTRICT_SELF = 444, 446  # on every architecture
_LANDLOCK_BIND_TCP, _LANDLOCK_CONNECT_TCP = 1, 2
_CAPABILITIES = 64
"""Upper bound; prctl answers EINVAL beyond the kernel's last one."""


_handlers: list[object] = []
"""libc knows only their addresses."""


def prctl(option: int, *arguments: int) -> None:
    """Call prctl(2); raises OSError."""
    words = [ctypes.c_ulong(word) for word in (*arguments, 0, 0, 0, 0)[:4]]
    if _LIBC.prctl(option, *words) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}): {os.strerror(code)}")


def die_with_parent(parent: int, number: signal.Signals) -> None:
    """Be sent a signal when the process `parent`, which forked this one, dies; exit if it has died already."""
    if IS_LINUX:
        prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies, so that none is lost from sight."""
    if IS_LINUX:
        prctl(_PR_SET_CHILD_SUBREAPER, 1)


def drop_privileges() -> None:
    """Give up every capability in every set and any way to regain one. Raises OSError."""
    if not IS_LINUX:
        return
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    for capability in range(_CAPABILITIES):
        try:
            prctl(_PR_CAPBSET_DROP, capability)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EPERM):  # past the last one; or had none to begin with
                raise
            break
    prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    nothing = bytes(24)  # effective, permitted and inheritable, twice 32 bits each
    if _LIBC.capset(header, nothing) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"capset: {os.strerror(code)}")


def landlock_abi() -> int:
    """Return the version of Landlock that the kernel offers; 0 means none."""
    if not IS_LINUX:
        return 0
    version: int = _LIBC.syscall(_SYS_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    return max(version, 0)


def forbid_tcp() -> None:
    """Have the kernel refuse this thread to bind and to connect over TCP, for good. It must have no_new_privs.

    Raises OSError.
    """
    rules = struct.pack("=QQ", 0, _LANDLOCK_BIND_TCP | _LANDLOCK_CONNECT_TCP)  # of files it handles none
    ruleset = _syscall(_SYS_LANDLOCK_CREATE_RULESET, rules, ctypes.c_size_t(len(rules)), 0)
    _syscall(_SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def in_forked_children(action: Callable[[], None]) -> None:
    """Have every process that libc's fork makes of this one begin with `action`, and end if that fails.

    For forks of libraries: no other thread of this process may run Python meanwhile. Raises OSError.
    """

    def begin() -> None:
        try:
            action()
        except BaseException:
            os._exit(126)

    handler = ctypes.CFUNCTYPE(None)(begin)
    _handlers.append(handler)
    if _LIBC.__register_atfork(None, None, handler, None) != 0:
        raise OSError(errno.ENOMEM, "libc takes no more handlers of forks")


def children(parent: int) -> list[int]:
    """List the direct children of a process, zombies included. It has none if it is gone."""
    try:
        with os.scandir(f"/proc/{parent}/task") as threads:
            return [int(pid) for thread in threads for pid in read_small(f"{thread.path}/children").split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def read_small(path: str) -> bytes:
    """What a file of the kernel's says. It is asked for each agent twice a second: five times sooner than by `Path`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = b""
        while piece := os.read(descriptor, 65_536):
            content += piece
        return content
    finally:
        os.close(descriptor)


def _syscall(number: int, *arguments: object) -> int:
    result: int = _LIBC.syscall(number, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"system call {number}: {os.strerror(code)}")
    return result
