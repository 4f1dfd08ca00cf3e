"""Every way that we know from inside a sandbox to a peer outside: run where something might get out.

As a program: `reach.py TARGETS`, the addresses of `Listeners` as JSON; it prints what succeeded.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
MPTCP = 262
FASTOPEN = 0x20000000
TCP_FASTOPEN_CONNECT = 30
SO_DOMAIN = 39
KINDS = (1, 2, 3, 4, 5, 6, 10)
PROTOCOLS = (0, 1, 2, 6, 17, 33, 41, 47, 50, 58, 94, 115, 132, 136, 137, 255, 256, 262)


def sockets() -> list[list[int]]:
    """Every family, type and protocol of which there is a socket here, and the family that it has in truth."""
    got = []
    for family in range(50):
        for kind in KINDS:
            for protocol in PROTOCOLS:
                with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as made:
                    got.append([family, kind, protocol, made.getsockopt(socket.SOL_SOCKET, SO_DOMAIN)])
    return got


def pairs() -> list[list[int]]:
    """Every family and type of which there is a pair of sockets here."""
    got = []
    for family in range(50):
        for kind in KINDS:
            with contextlib.suppress(OSError):
                for end in socket.socketpair(family, kind):
                    end.close()
                got.append([family, kind])
    return got


def calls(numbers: dict[str, int]) -> dict[str, int]:
    """What becomes of system calls without sense in their arguments: their errors' numbers, 0 for success."""
    outcomes = {}
    for name, number in numbers.items():
        result = LIBC.syscall(number, *(ctypes.c_long(0) for _ in range(6)))
        outcomes[name] = ctypes.get_errno() if result == -1 else 0
    return outcomes


def reached(targets: dict[str, Any]) -> list[str]:
    """Try everything; the names of what succeeded."""
    return [name for name, attempt in _attempts(targets) if _succeeds(attempt)]


def _succeeds(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except OSError:
        return False
    return True


def _attempts(targets: dict[str, Any]) -> Iterator[tuple[str, Callable[[], object]]]:
    internet = (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6))
    for (name, family), protocol in itertools.product(internet, (0, socket.IPPROTO_TCP, MPTCP, 132, 256)):
        address = tuple(targets[name])
        for way in (_connect, _send, _send_message, _send_after_option):
            yield f"{name}/{protocol} {way.__name__}", partial(way, family, socket.SOCK_STREAM, protocol, address)
        for wait in (_listen, _bind):
            yield f"{name}/{protocol} {wait.__name__}", partial(wait, family, protocol)
    for protocol in (0, socket.IPPROTO_UDP, 136):
        yield f"udp/{protocol}", partial(_send, socket.AF_INET, socket.SOCK_DGRAM, protocol, tuple(targets["udp"]))
    for name, kind in itertools.product(("path", "abstract"), (socket.SOCK_STREAM, socket.SOCK_SEQPACKET)):
        yield f"{name}/{kind}", partial(_connect, socket.AF_UNIX, kind, 0, targets[name])
    for name in ("path datagrams", "abstract datagrams"):
        yield name, partial(_send, socket.AF_UNIX, socket.SOCK_DGRAM, 0, targets[name])
        yield f"{name} from a pair", partial(_send_from_pair, targets[name])
    for fd in range(8):
        yield f"tcp from {fd}", partial(_use_held, fd, _internet_address(*targets["tcp"]))
        for name in ("path datagrams", "abstract datagrams"):
            yield (
                f"{name} from {fd}",
                partial(_use_held, fd, struct.pack("=H", socket.AF_UNIX) + targets[name].encode()),
            )
    yield "TIOCSTI", _type_into_terminal


def _connect(family: int, kind: int, protocol: int, address: Any) -> None:
    with socket.socket(family, kind, protocol) as made:
        made.settimeout(5)
        made.connect(address)
        made.send(b"out")


def _send(family: int, kind: int, protocol: int, address: Any) -> None:
    with socket.socket(family, kind, protocol) as made:
        made.sendto(b"out", FASTOPEN if kind == socket.SOCK_STREAM else 0, address)


def _send_message(family: int, kind: int, protocol: int, address: Any) -> None:
    with socket.socket(family, kind, protocol) as made:
        made.sendmsg([b"out"], [], FASTOPEN, address)


def _send_after_option(family: int, kind: int, protocol: int, address: Any) -> None:
    with socket.socket(family, kind, protocol) as made:
        made.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
        made.connect(address)
        made.send(b"out")


def _send_from_pair(address: str) -> None:
    for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM):
        with end:
            end.sendto(b"out", address)


def _listen(family: int, protocol: int) -> None:
    with socket.socket(family, socket.SOCK_STREAM, protocol) as made:
        made.listen()


def _bind(family: int, protocol: int) -> None:
    with socket.socket(family, socket.SOCK_STREAM, protocol) as made:
        made.bind(("", 0))


def _use_held(fd: int, address: bytes) -> None:
    """Connect and send on a descriptor that was inherited."""
    for result in (
        LIBC.connect(fd, address, len(address)),
        LIBC.sendto(fd, b"out", 3, FASTOPEN, address, len(address)),
        LIBC.sendto(fd, b"out", 3, 0, address, len(address)),
    ):
        if result >= 0:
            return
    raise OSError(ctypes.get_errno(), "refused")


def _internet_address(host: str, port: int) -> bytes:
    return struct.pack("=H", socket.AF_INET) + struct.pack("!H", port) + socket.inet_aton(host) + bytes(8)


def _type_into_terminal() -> None:
    for fd in range(3):
        if LIBC.ioctl(fd, 0x5412, ctypes.create_string_buffer(b"x")) == 0:
            return
    raise OSError(ctypes.get_errno(), "TIOCSTI")


if __name__ == "__main__":
    print(json.dumps({"reached": reached(json.loads(sys.argv[1])), "sockets": sockets(), "pairs": pairs()}))
