"""What the kernel would make of a filter: classic BPF, interpreted, for all the calls that no test can make."""

from __future__ import annotations

import errno
import platform
from collections.abc import Sequence

from l02.handlers.sandbox.confinement.bpf import Instruction
from l02.handlers.sandbox.confinement.syscalls import AUDIT_ARCHITECTURES

KILLED, ALLOWED = "killed", "allowed"
_ARCHITECTURE = AUDIT_ARCHITECTURES.get(platform.machine(), 0)


def verdict(
    program: list[Instruction], number: int, arguments: Sequence[int] = (), *, architecture: int = _ARCHITECTURE
) -> str:
    """`allowed`, `killed`, or the name of the error."""
    words = [number, architecture, 0, 0]
    for argument in (*arguments, 0, 0, 0, 0, 0, 0)[:6]:
        words += [argument & 0xFFFFFFFF, argument >> 32 & 0xFFFFFFFF]
    accumulator = position = 0
    while True:
        code, jump_true, jump_false, constant = program[position]
        position += 1
        match code:
            case 0x20:
                accumulator = words[constant // 4]
            case 0x54:
                accumulator &= constant
            case 0x05:
                position += constant
            case 0x15:
                position += jump_true if accumulator == constant else jump_false
            case 0x35:
                position += jump_true if accumulator >= constant else jump_false
            case 0x45:
                position += jump_true if accumulator & constant else jump_false
            case 0x06:
                return _named(constant)
            case _:
                raise ValueError(f"no such instruction: {code:#x}")


def _named(result: int) -> str:
    if result == 0x7FFF0000:
        return ALLOWED
    if result == 0x80000000:
        return KILLED
    assert result >> 16 == 0x0005, f"{result:#x}"
    return errno.errorcode[result & 0xFFFF]
