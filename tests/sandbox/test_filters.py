"""What the system-call filters say of all the calls and arguments there are, by interpreting them."""

from __future__ import annotations

import platform

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l02.handlers.sandbox.confinement import seccomp
from l02.handlers.sandbox.confinement.syscalls import AUDIT_ARCHITECTURES, SYSCALLS
from tests.sandbox.verdicts import ALLOWED, KILLED, verdict

pytestmark = pytest.mark.skipif(not seccomp.supported(), reason="no filter is known for this machine")

PID = 4711
FILTERS = {
    "agent": seccomp.for_agent(PID) if seccomp.supported() else [],
    "program": seccomp.for_program(network=False, unix=False) if seccomp.supported() else [],
    "program with a network": seccomp.for_program(network=True, unix=False) if seccomp.supported() else [],
    "program with a socket": seccomp.for_program(network=False, unix=True) if seccomp.supported() else [],
    "supervisor": seccomp.for_supervisor(network=False) if seccomp.supported() else [],
}
NUMBERS = SYSCALLS.get(platform.machine(), {})
WORDS = st.integers(0, 2**64 - 1) | st.integers(0, 64)
FASTOPEN = 0x20000000


def on(who: str, name: str, *arguments: int) -> str:
    return verdict(FILTERS[who], NUMBERS[name], arguments)


@pytest.mark.parametrize("who", FILTERS)
def test_a_call_that_nobody_knows_is_not_implemented(who: str) -> None:
    known = set(NUMBERS.values())
    assert {verdict(FILTERS[who], number) for number in range(5000) if number not in known} == {"ENOSYS"}


@given(who=st.sampled_from(list(FILTERS)), number=st.integers(0, 2**32 - 1), arguments=st.tuples(*[WORDS] * 6))
def test_no_other_architecture(who: str, number: int, arguments: tuple[int, ...]) -> None:
    others = {0x40000003, 0x40000028, *AUDIT_ARCHITECTURES.values()} - {AUDIT_ARCHITECTURES[platform.machine()]}
    for architecture in others:
        assert verdict(FILTERS[who], number, arguments, architecture=architecture) == KILLED
    assert verdict(FILTERS[who], number | 0x40000000, arguments) == KILLED


@given(family=WORDS, kind=WORDS, protocol=WORDS)
def test_sockets(family: int, kind: int, protocol: int) -> None:
    low = (family % 2**32, kind & 0xF, protocol % 2**32)
    emulated = (low[0], low[2]) == (16, 0)
    tcp = low in {(2, 1, 0), (2, 1, 6), (10, 1, 0), (10, 1, 6)}
    unix = (low[0], low[2]) == (1, 0)
    arguments = (family, kind, protocol)
    assert on("agent", "socket", *arguments) == "EPERM"
    assert (on("program", "socket", *arguments) == ALLOWED) == emulated
    assert (on("program with a network", "socket", *arguments) == ALLOWED) == (emulated or tcp)
    assert (on("program with a socket", "socket", *arguments) == ALLOWED) == (emulated or unix)


@given(arguments=st.tuples(*[WORDS] * 6), flags=WORDS)
def test_nothing_is_sent_with_what_opens_a_connection(arguments: tuple[int, ...], flags: int) -> None:
    for who in FILTERS:
        for name, place in (("sendto", 3), ("sendmsg", 2), ("sendmmsg", 3)):
            given_flags = [*arguments[:place], flags, *arguments[place + 1 :]]
            assert (on(who, name, *given_flags) == ALLOWED) == (flags & FASTOPEN == 0)


def test_options_that_open_a_connection() -> None:
    sol_tcp, nodelay, fastopen, fastopen_connect, ulp = 6, 1, 23, 30, 31
    assert on("program with a network", "setsockopt", 5, sol_tcp, nodelay) == ALLOWED
    for option in (fastopen, fastopen_connect, ulp):
        assert on("program with a network", "setsockopt", 5, sol_tcp, option) == "EPERM"
    for who in ("agent", "program", "program with a socket"):
        assert on(who, "setsockopt", 5, sol_tcp, nodelay) == "EPERM"


def test_who_may_wait_for_connections() -> None:
    for name in ("listen", "accept4"):
        for who in ("agent", "program", "program with a network"):
            assert on(who, name, 5, 1) == "EPERM"
        assert on("program with a socket", name, 5, 1) == ALLOWED


def test_new_processes() -> None:
    thread, fork, user_namespace, own_parent = 0x3D0F00, 17, 0x10000000 | 17, 0x8000 | 17
    assert [on("agent", "clone", flags) for flags in (thread, fork, user_namespace)] == [ALLOWED, "EPERM", "EPERM"]
    outcomes = [on("program", "clone", flags) for flags in (thread, fork, user_namespace, own_parent)]
    assert outcomes == [ALLOWED, ALLOWED, "EPERM", "EPERM"]
    assert {verdict(program, 435) for program in FILTERS.values()} == {"ENOSYS"}  # clone3: its flags are in memory


@given(pid=WORDS, number=st.integers(0, 64))
def test_an_agent_signals_itself_only(pid: int, number: int) -> None:
    assert (on("agent", "kill", pid, number) == ALLOWED) == (pid % 2**32 == PID)


def test_files_with_the_rights_of_others() -> None:
    create, plain, set_user = 0o101, 0o600, 0o4755
    for who in FILTERS:
        assert on(who, "openat", 0, 0, create, plain) == ALLOWED
        assert on(who, "openat", 0, 0, create, set_user) == "EPERM"
        assert on(who, "openat", 0, 0, 0, set_user) == ALLOWED
        assert on(who, "fchmod", 3, plain) == "EPERM"
    assert on("program", "openat2") == "ENOSYS"
    assert on("supervisor", "openat2") == ALLOWED


def test_memory_that_is_not_resident() -> None:
    """A file in memory alone, a shared mapping of no file, pages given to a pipe, what processes share by a key."""
    private, shared, of_a_file, validated = 0x22, 0x21, 0x01, 0x23
    for who in FILTERS:
        assert [on(who, "mmap", 0, 1 << 30, 3, flags) for flags in (private, of_a_file)] == [ALLOWED, ALLOWED]
        assert verdict(FILTERS[who], 447) == "ENOSYS"  # memfd_secret
        assert on(who, "vmsplice") == "EPERM"
        if who != "supervisor":
            assert [on(who, "mmap", 0, 1 << 30, 3, flags) for flags in (shared, validated)] == ["EPERM", "EPERM"]
            assert on(who, "memfd_create") == "ENOSYS"


def test_what_everybody_needs() -> None:
    for who in FILTERS:
        for name in ("read", "write", "mmap", "futex", "epoll_ctl", "exit_group", "getrandom", "recvmsg", "statx"):
            assert on(who, name) == ALLOWED
        assert on(who, "ioctl", 1, 0x5401) == ALLOWED
        assert on(who, "ioctl", 1, 0x5412) == "ENOTTY"  # TIOCSTI, which types into a terminal
