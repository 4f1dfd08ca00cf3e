"""System-call filters: what a sandboxed process may ask of the kernel at all. Everything else is refused.

Landlock rules over opening, creating and removing files, over signals, and over TCP by its plain calls, and only over
those. The filters hold the rest by naming what is needed: calls, and for calls that can do too much, their arguments.
A call that they do not name fails with EPERM, or with ENOSYS if the tables do not know it either, so that libraries
fall back on an older one. A program needs more than a Python agent, which is one process for life, and sandlock's
supervisor more than the program under it.

Memory is held to its limit by what is resident in the processes. So what would take memory without that is refused: a
file in memory alone (memfd_create, a shared mapping of no file) stays when it is unmapped, and a pipe holds pages that
were given to it (vmsplice). Both are rarely used, and libraries do without.
"""

from __future__ import annotations

import errno
import platform

from l02.handlers.sandbox.confinement import bpf
from l02.handlers.sandbox.confinement.bpf import Instruction
from l02.handlers.sandbox.confinement.syscalls import AUDIT_ARCHITECTURES, SYSCALLS

Kind = tuple[int, int | None, tuple[int, ...]]
"""A socket's family, type (None: any) and protocols."""


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_ALL = _names("""
    read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 close close_range lseek
    stat fstat lstat newfstatat statx statfs fstatfs access faccessat faccessat2 getdents getdents64 getcwd chdir fchdir
    readlink readlinkat rename renameat renameat2 mkdir mkdirat rmdir unlink unlinkat link linkat symlink symlinkat
    truncate ftruncate fallocate fadvise64 fsync fdatasync sync_file_range copy_file_range sendfile splice tee readahead
    flock dup dup2 dup3 fcntl pipe pipe2 umask
    munmap mremap mprotect madvise msync mincore brk mlock mlock2 munlock membarrier
    poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2
    eventfd eventfd2 timerfd_create timerfd_settime timerfd_gettime signalfd signalfd4
    rt_sigaction rt_sigprocmask rt_sigreturn rt_sigsuspend rt_sigpending rt_sigtimedwait sigaltstack pause
    restart_syscall nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday time times alarm getitimer
    setitimer timer_create timer_settime timer_gettime timer_getoverrun timer_delete
    getpid gettid getppid getuid geteuid getgid getegid getgroups getresuid getresgid getpgrp getpgid getsid getrusage
    getrlimit setrlimit sysinfo uname getcpu getrandom getpriority capget arch_prctl
    sched_yield sched_getaffinity sched_getparam sched_getscheduler sched_getattr sched_get_priority_max
    sched_get_priority_min sched_rr_get_interval
    set_tid_address set_robust_list get_robust_list rseq futex futex_waitv futex_wake futex_wait futex_requeue
    exit exit_group wait4 waitid
    recvfrom recvmsg recvmmsg shutdown getsockname getpeername getsockopt
""")
"""Files (within Landlock's rules), memory, threads, time, waiting, and what is connected already."""

_PROGRAMS = _names("""
    fork vfork execve execveat setpgid setsid kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo
    pidfd_open pidfd_send_signal inotify_init inotify_init1 inotify_add_watch inotify_rm_watch
    getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr mlockall munlockall pkey_alloc pkey_free pkey_mprotect
    seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self bind connect
""")
"""Processes and signals (within Landlock's domain), and sockets' addresses, which sandlock looks at."""

_LISTENING = _names("listen accept accept4")
"""Linux gives a TCP socket that was never bound a port when it listens, and Landlock does not see it."""

_SUPERVISORS = _names("pidfd_getfd process_vm_readv process_vm_writev openat2 memfd_create")
"""sandlock's supervisor looks into the program under it, and has files in memory."""

UNTIL_CONFINED = _names("semget semctl semop semtimedop shmget shmat shmctl shmdt")
"""sandlock keeps a table of all sandboxes, with which its child is not done when it begins to confine itself. It is to
refuse these to the program (`extra_deny_syscalls`)."""

_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_SOCK_STREAM, _SOCK_DGRAM, _SOCK_SEQPACKET, _SOCK_TYPE_MASK = 1, 2, 5, 0xF
_IPPROTO_TCP, _IPPROTO_UDP = 6, 17
_NETLINK_ROUTE = 0
_TCP: tuple[Kind, ...] = tuple((family, _SOCK_STREAM, (0, _IPPROTO_TCP)) for family in (_AF_INET, _AF_INET6))
"""Not MPTCP, SCTP and SMC, which Landlock does not see."""
_UDP: tuple[Kind, ...] = tuple((family, _SOCK_DGRAM, (0, _IPPROTO_UDP)) for family in (_AF_INET, _AF_INET6))
_UNIX: Kind = (_AF_UNIX, None, (0,))
_EMULATED: Kind = (_AF_NETLINK, None, (_NETLINK_ROUTE,))
"""sandlock answers this itself, in its supervisor: there is no such socket."""
_MSG_FASTOPEN = 0x20000000
_SOL_SOCKET, _SOL_IP, _SOL_TCP, _SOL_IPV6 = 1, 0, 6, 41
_TCP_OPTIONS = (1, 2, 3, 4, 5, 6, 8, 12, 18, 25)
"""NODELAY, MAXSEG, CORK, KEEPIDLE, KEEPINTVL, KEEPCNT, LINGER2, QUICKACK, USER_TIMEOUT, NOTSENT_LOWAT of linux/tcp.h.
Not FASTOPEN and FASTOPEN_CONNECT, which connect without saying so; not ULP and REPAIR."""

_IOCTLS = (
    *(0x5401, 0x802C542A, 0x540F, 0x5411, 0x5413, 0x541B),  # TCGETS, TCGETS2, TIOCGPGRP, TIOCOUTQ, TIOCGWINSZ, FIONREAD
    *(0x5421, 0x5450, 0x5451, 0x5452, 0x5460),  # FIONBIO, FIONCLEX, FIOCLEX, FIOASYNC, FIOQSIZE
    *(0x40049409, 0x4020940D, 0x80086601, 0xC020660B),  # FICLONE, FICLONERANGE, FS_IOC_GETFLAGS, FS_IOC_FIEMAP
)
_IOCTL_TYPE_MASK, _SECCOMP_IOCTLS = 0xFF00, 0x2100

_PRCTLS = (3, 15, 16, 21, 23, 29, 30, 39, 41, 42, 0x53564D41)
"""Dumpable and the seccomp mode read; the name; bounding set read; timer slack; no_new_privs read; huge pages; names
for memory. (PR_* of linux/prctl.h.)"""
_PROGRAM_PRCTLS = (1, 2, 22, 36, 37, 38, 47)
"""The death signal, filters, orphans, no_new_privs, ambient capabilities (of which there are none)."""

_MAP_SHARED, _MAP_ANONYMOUS = 0x01, 0x20
_CLONE_THREAD = 0x00010000
_CLONE_FLAGS = 0x017D5FFF
"""All that neither make a namespace nor trace, nor give the child to the own parent (CLONE_PARENT)."""
_CREATES_FILE = 0o100 | 0o20000000  # O_CREAT, __O_TMPFILE
_SET_ID_BITS = 0o6000


def supported() -> bool:
    """Say whether the filters know this machine's system-call numbers."""
    return platform.machine() in SYSCALLS


def for_agent(pid: int) -> list[Instruction]:
    """Make the filter of the single-process Python agent whose process id is `pid`."""
    rules = _common(prctls=_PRCTLS, levels=(_SOL_SOCKET,))
    rules["clone"] = [*bpf.when(0, (_CLONE_THREAD,), [bpf.allow()], mask=_CLONE_THREAD), bpf.deny()]
    for name in ("kill", "tgkill", "rt_sigqueueinfo"):
        rules[name] = bpf.one_of(0, (pid,))
    # A datagram pair could be used to send to any address, a stream pair cannot.
    rules["socketpair"] = _sockets((_AF_UNIX, _SOCK_STREAM, (0,)))
    return _filter(rules, _ALL)


def for_program(*, network: bool, unix: bool) -> list[Instruction]:
    """Make the filter of a program that sandlock supervises.

    `network` says whether it may have TCP; to whom it connects is for sandlock to see. `unix` says whether it may
    connect to sockets in files.
    """
    rules = _programs(network=network)
    rules["socket"] = _sockets(*(_TCP if network else ()), *((_UNIX,) if unix else ()), _EMULATED)
    return _filter(rules, (*_ALL, *_PROGRAMS, *UNTIL_CONFINED, *(_LISTENING if unix and not network else ())))


def for_supervisor(*, network: bool) -> list[Instruction]:
    """Make the filter of sandlock's supervisor, which every program under it inherits.

    With a network it looks names up; it also listens for sandlock's own command line.
    """
    rules = _programs(network=network)
    rules["socket"] = _sockets(*((*_TCP, *_UDP) if network else ()), _UNIX, _EMULATED)
    rules["ioctl"] = [*bpf.when(1, (_SECCOMP_IOCTLS,), [bpf.allow()], mask=_IOCTL_TYPE_MASK), *rules["ioctl"]]
    for name in ("openat2", "memfd_create", "mmap"):
        del rules[name]
    return _filter(rules, (*_ALL, *_PROGRAMS, *_LISTENING, *UNTIL_CONFINED, *_SUPERVISORS, "mmap"))


def _programs(*, network: bool) -> dict[str, list[Instruction]]:
    levels = (_SOL_SOCKET, _SOL_IP, _SOL_IPV6) if network else (_SOL_SOCKET,)
    rules = _common(prctls=(*_PRCTLS, *_PROGRAM_PRCTLS), levels=levels)
    rules["clone"] = bpf.allow_if_only(0, _CLONE_FLAGS)
    rules["socketpair"] = _sockets((_AF_UNIX, _SOCK_STREAM, (0,)), (_AF_UNIX, _SOCK_SEQPACKET, (0,)))
    return rules


def _common(*, prctls: tuple[int, ...], levels: tuple[int, ...]) -> dict[str, list[Instruction]]:
    """Make the rules over arguments that agents and programs share."""
    tcp = bpf.when(1, (_SOL_TCP,), bpf.one_of(2, _TCP_OPTIONS)) if _SOL_IP in levels else []
    return {
        "openat": _open(flags=2, mode=3),
        "open": _open(flags=1, mode=2),
        "openat2": [bpf.deny(errno.ENOSYS)],  # which has its flags and mode in memory
        "creat": bpf.allow_unless_set(1, _SET_ID_BITS),
        "mmap": [
            *bpf.when(3, (_MAP_SHARED | _MAP_ANONYMOUS,), [bpf.deny()], mask=_MAP_SHARED | _MAP_ANONYMOUS),
            bpf.allow(),
        ],
        "memfd_create": [bpf.deny(errno.ENOSYS)],
        "prlimit64": bpf.one_of(0, (0,)),
        # An open file may be touched; a path or a chosen time may not be given.
        "utimensat": [*bpf.unless_null(1), *bpf.unless_null(2), bpf.allow()],
        "ioctl": bpf.one_of(1, _IOCTLS, errno.ENOTTY),
        "prctl": bpf.one_of(0, prctls),
        "setsockopt": [*tcp, *bpf.one_of(1, levels)],
        "sendto": bpf.allow_unless_set(3, _MSG_FASTOPEN),
        "sendmsg": bpf.allow_unless_set(2, _MSG_FASTOPEN),
        "sendmmsg": bpf.allow_unless_set(3, _MSG_FASTOPEN),
    }


def _open(flags: int, mode: int) -> list[Instruction]:
    created = bpf.allow_unless_set(mode, _SET_ID_BITS)
    return [*bpf.when_any(flags, _CREATES_FILE, created), bpf.allow()]


def _sockets(*kinds: Kind) -> list[Instruction]:
    """Allow a socket of one of these kinds."""
    program: list[Instruction] = []
    for family, kind, protocols in kinds:
        body = bpf.when(2, protocols, [bpf.allow()])
        if kind is not None:
            body = bpf.when(1, (kind,), body, mask=_SOCK_TYPE_MASK)
        program += bpf.when(0, (family,), body)
    return [*program, bpf.deny()]


def _filter(rules: dict[str, list[Instruction]], allowed: tuple[str, ...]) -> list[Instruction]:
    machine = platform.machine()
    program = bpf.start(AUDIT_ARCHITECTURES[machine])
    bodies = {name: [bpf.allow()] for name in allowed} | rules
    for name, number in SYSCALLS[machine].items():
        program += bpf.on(number, bodies.get(name, [bpf.deny()]))
    return [*program, bpf.deny(errno.ENOSYS)]
