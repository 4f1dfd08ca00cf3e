"""System-call filters for what Landlock does not see: sockets, processes, ownership, modes, other processes' limits.

Landlock rules over opening, creating and removing files and over signals, and only over those. A process of the same
user could still chmod any file that user owns, call prlimit on its node or start a thousand processes. `for_agent`
closes that for a Python agent, which is one process for life; `for_program` is the part that holds for arbitrary
programs too, where sandlock's supervisor adds its own filter for network and process counts.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from collections.abc import Iterable

from handlers.sandbox.linux import prctl
from handlers.sandbox.syscalls import AUDIT_ARCHITECTURES, SYSCALLS

__all__ = ["for_agent", "for_program", "install", "supported"]

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, constant

_LOAD, _EQUAL, _GREATER_EQUAL, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_OFFSET_NUMBER, _OFFSET_ARCHITECTURE = 0, 4
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2

_PR_SET_PDEATHSIG = 1
_CLONE_THREAD = 0x00010000
_CREATES_FILE = 0o100 | 0o20000000  # O_CREAT, __O_TMPFILE
_SET_ID_BITS = 0o6000
_SOCK_TYPE_MASK, _SOCK_STREAM = 0xF, 1


def _names(text: str) -> list[str]:
    return text.split()


_HOST = _names("""
    acct adjtimex clock_adjtime clock_settime chroot delete_module finit_module init_module ioperm iopl kexec_file_load
    kexec_load lookup_dcookie modify_ldt mount pivot_root quotactl reboot setdomainname sethostname setns settimeofday
    swapoff swapon syslog umount2 unshare uselib vhangup personality
    bpf perf_event_open userfaultfd add_key keyctl request_key fanotify_init name_to_handle_at open_by_handle_at
    setuid setgid setreuid setregid setgroups setresuid setresgid setfsuid setfsgid capset
    chmod fchmod fchmodat chown fchown lchown fchownat setxattr lsetxattr fsetxattr removexattr lremovexattr
    fremovexattr utime utimes futimesat mknod mknodat
    setpriority sched_setparam sched_setscheduler sched_setattr sched_setaffinity ioprio_set migrate_pages move_pages
    kcmp
""")
"""Refused to everybody: the host's state, identities, modes and owners, and other processes' scheduling."""

_AGENT = _names("""
    socket connect bind listen accept accept4 ptrace process_vm_readv process_vm_writev tkill rt_tgsigqueueinfo
    fork vfork execve execveat memfd_create shmget shmat semget msgget mq_open inotify_init inotify_init1
    getxattr lgetxattr listxattr llistxattr
""")
"""Refused to a Python agent besides: sockets, other processes, new processes, shared memory, watching files."""

_FIRST_UNIFIED = 424
_FCHMODAT2 = 452
_KNOWN_HARMLESS = (436, 439, 441, 449, 454, 455, 456)
"""close_range, faccessat2, epoll_pwait2, futex_waitv, futex_wake, futex_wait, futex_requeue."""
_UNIFIED_REFUSED = (425, 426, 427, 428, 429, 430, 431, 432, 433, 440, 442, 443, 447, 448, 463, 466, 468, 469)
"""io_uring_*, the new mount calls, process_madvise, quotactl_fd, memfd_secret, process_mrelease, setxattrat,
removexattrat, file_setattr: refused to programs, which otherwise may use new calls."""


def supported() -> bool:
    """Say whether the filters know this machine's system-call numbers."""
    return platform.machine() in SYSCALLS


def for_agent(pid: int) -> bytes:
    """Make the filter of the single-process Python agent whose process id is `pid`."""
    numbers = SYSCALLS[platform.machine()]
    program = _start()
    program += _deny_all(numbers, [*_HOST, *_AGENT], errno.EPERM)
    program += _deny_all(numbers, ["io_setup"], errno.ENOSYS)
    program += _common(numbers)
    program += _on(numbers["clone"], _allow_if_bit(0, _CLONE_THREAD))
    for name in ("kill", "tgkill", "rt_sigqueueinfo"):
        program += _on(numbers[name], _allow_if_equal(0, pid))
    program += _on(
        numbers["socketpair"],
        [_load(1), (_AND, 0, 0, _SOCK_TYPE_MASK), (_EQUAL, 0, 1, _SOCK_STREAM), _allow(), _deny(errno.EPERM)],
    )
    program += _on(numbers["prctl"], [_load(0), (_EQUAL, 0, 1, _PR_SET_PDEATHSIG), _deny(errno.EPERM), _allow()])
    for number in _KNOWN_HARMLESS:  # openat2, which hides its mode in memory, is not among them
        program += _on(number, [_allow()])
    program += _on(_FCHMODAT2, [_deny(errno.EPERM)])
    program += [(_GREATER_EQUAL, 0, 1, _FIRST_UNIFIED), _deny(errno.ENOSYS), _allow()]
    return _assemble(program)


def for_program() -> bytes:
    """Make the filter for sandlock's supervisor, which needs openat2, and the program under it."""
    numbers = SYSCALLS[platform.machine()]
    program = _start()
    program += _deny_all(numbers, _HOST, errno.EPERM)
    program += _common(numbers)
    for number in _UNIFIED_REFUSED:
        program += _on(number, [_deny(errno.ENOSYS)])
    program += _on(_FCHMODAT2, [_deny(errno.EPERM)])
    program += [_allow()]
    return _assemble(program)


def install(program: bytes) -> None:
    """Put a filter on the calling thread for good. It must have no_new_privs; raises OSError."""
    instructions = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(instructions))
    buffer = ctypes.create_string_buffer(header, len(header))
    prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(buffer))


def _common(numbers: dict[str, int]) -> list[Instruction]:
    program = _on(numbers["prlimit64"], _allow_if_equal(0, 0))
    program += _on(numbers["utimensat"], [*_unless_null(1), *_unless_null(2), _allow()])
    for name, flags, mode in (("openat", 2, 3), ("open", 1, 2)):
        if name in numbers:
            program += _on(
                numbers[name],
                [
                    _load(flags),
                    (_ANY_BIT, 0, 3, _CREATES_FILE),
                    _load(mode),
                    (_ANY_BIT, 0, 1, _SET_ID_BITS),
                    _deny(errno.EPERM),
                    _allow(),
                ],
            )
    if "creat" in numbers:
        program += _on(numbers["creat"], [_load(1), (_ANY_BIT, 0, 1, _SET_ID_BITS), _deny(errno.EPERM), _allow()])
    return program


def _start() -> list[Instruction]:
    machine = platform.machine()
    program: list[Instruction] = [
        (_LOAD, 0, 0, _OFFSET_ARCHITECTURE),
        (_EQUAL, 1, 0, AUDIT_ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _OFFSET_NUMBER),
    ]
    if machine == "x86_64":  # the x32 calls are the same calls under other numbers
        program += [(_GREATER_EQUAL, 0, 1, 0x40000000), (_RETURN, 0, 0, _KILL)]
    return program


def _deny_all(numbers: dict[str, int], names: Iterable[str], error: int) -> list[Instruction]:
    denied = (numbers[name] for name in names if name in numbers)
    return [instruction for number in denied for instruction in _on(number, [_deny(error)])]


def _on(number: int, body: list[Instruction]) -> list[Instruction]:
    """Run `body`, every path of which returns, for one system call, and pass over it for the others."""
    return [(_EQUAL, 0, len(body), number), *body]


def _allow_if_equal(argument: int, value: int) -> list[Instruction]:
    return [_load(argument), (_EQUAL, 0, 1, value), _allow(), _deny(errno.EPERM)]


def _allow_if_bit(argument: int, bit: int) -> list[Instruction]:
    return [_load(argument), (_ANY_BIT, 0, 1, bit), _allow(), _deny(errno.EPERM)]


def _unless_null(argument: int) -> list[Instruction]:
    """Refuse a pointer that is not NULL: an open file may be touched, a path or a chosen time may not be given."""
    return [
        _load(argument),
        (_EQUAL, 0, 2, 0),
        (_LOAD, 0, 0, 16 + 8 * argument + 4),
        (_EQUAL, 1, 0, 0),
        _deny(errno.EPERM),
    ]


def _load(argument: int) -> Instruction:
    """Load the low half of an argument (both architectures are little-endian)."""
    return (_LOAD, 0, 0, 16 + 8 * argument)


def _allow() -> Instruction:
    return (_RETURN, 0, 0, _ALLOW)


def _deny(error: int) -> Instruction:
    return (_RETURN, 0, 0, _ERRNO | error)


def _assemble(program: list[Instruction]) -> bytes:
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
