"""Classic BPF, the language of system-call filters: the few instructions they need, and how they reach the kernel."""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Iterable

from l02.handlers.sandbox.confinement.linux import prctl

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, constant

_LOAD, _EQUAL, _GREATER_EQUAL, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_JUMP = 0x05
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_X32 = 0x40000000
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2


def start(architecture: int) -> list[Instruction]:
    """Kill whoever enters by another architecture's numbers (i386, x32), then load the call's number."""
    return [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_GREATER_EQUAL, 0, 1, _X32),
        (_RETURN, 0, 0, _KILL),
    ]


def on(number: int, body: list[Instruction]) -> list[Instruction]:
    """Run `body`, every path of which returns, for one system call, and pass over it for the others."""
    return [(_EQUAL, 0, len(body), number), *body]


def allow() -> Instruction:
    """Let the call happen."""
    return (_RETURN, 0, 0, _ALLOW)


def deny(error: int = errno.EPERM) -> Instruction:
    """Let the call fail with `error`."""
    return (_RETURN, 0, 0, _ERRNO | error)


def when(
    argument: int, values: Iterable[int], body: list[Instruction], *, mask: int | None = None
) -> list[Instruction]:
    """Run `body` if an argument, of which only the bits in `mask` are looked at, is one of `values`."""
    wanted = list(values)
    tests = [(_EQUAL, len(wanted) - place, 0, value) for place, value in enumerate(wanted)]
    masked = [] if mask is None else [(_AND, 0, 0, mask)]
    return [_load(argument), *masked, *tests, (_JUMP, 0, 0, len(body)), *body]


def when_any(argument: int, bits: int, body: list[Instruction]) -> list[Instruction]:
    """Run `body` if an argument has any of `bits`."""
    return [_load(argument), (_ANY_BIT, 0, len(body), bits), *body]


def one_of(argument: int, values: Iterable[int], error: int = errno.EPERM) -> list[Instruction]:
    """Allow the call if an argument is one of `values`."""
    return [*when(argument, values, [allow()]), deny(error)]


def allow_unless_set(argument: int, bits: int) -> list[Instruction]:
    """Allow the call if an argument has none of `bits`."""
    return [*when_any(argument, bits, [deny()]), allow()]


def allow_if_only(argument: int, bits: int) -> list[Instruction]:
    """Allow the call if an argument has no bits but `bits`."""
    return allow_unless_set(argument, ~bits & 0xFFFFFFFF)


def unless_null(argument: int) -> list[Instruction]:
    """Refuse a pointer that is not NULL."""
    high = _ARGUMENTS + 8 * argument + 4
    return [_load(argument), (_EQUAL, 0, 2, 0), (_LOAD, 0, 0, high), (_EQUAL, 1, 0, 0), deny()]


def install(program: list[Instruction]) -> None:
    """Put a filter on the calling thread for good. It must have no_new_privs; raises OSError."""
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    instructions = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxP", len(program), ctypes.addressof(instructions))
    buffer = ctypes.create_string_buffer(header, len(header))
    prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(buffer))


def _load(argument: int) -> Instruction:
    """Load the low half of an argument (both architectures are little-endian)."""
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * argument)
