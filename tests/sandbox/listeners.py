"""What waits outside of a sandbox for something to arrive from inside."""

from __future__ import annotations

import os
import socket
from typing import Any


class Listeners:
    """All that waits outside for something to arrive. Made in the test's process."""

    def __init__(self, directory: str) -> None:
        abstract = "\0l02-test-" + os.urandom(8).hex()
        self._made = {
            "tcp": _bound(socket.AF_INET, 1, ("127.0.0.1", 0)),
            "tcp6": _bound(socket.AF_INET6, 1, ("::1", 0)),
            "udp": _bound(socket.AF_INET, 2, ("127.0.0.1", 0)),
            "path": _bound(socket.AF_UNIX, 1, f"{directory}/stream"),
            "abstract": _bound(socket.AF_UNIX, 1, abstract),
            "path datagrams": _bound(socket.AF_UNIX, 2, f"{directory}/datagrams"),
            "abstract datagrams": _bound(socket.AF_UNIX, 2, abstract + "d"),
        }
        self.targets = {name: _readable(made.getsockname()) for name, made in self._made.items()}

    @staticmethod
    def tcp(host: str, port: int = 0) -> socket.socket:
        """One more for TCP, which does not wait; to be closed by the caller."""
        return _bound(socket.AF_INET, socket.SOCK_STREAM, (host, port))

    def arrived(self) -> list[str]:
        """The names of those at which something has arrived."""
        return [name for name, made in self._made.items() if _has_something(made)]

    def close(self) -> None:
        for made in self._made.values():
            made.close()


def _bound(family: int, kind: int, address: Any) -> socket.socket:
    made = socket.socket(family, kind)
    made.bind(address)
    if kind == socket.SOCK_STREAM:
        made.listen(1000)
    made.setblocking(False)
    return made


def _readable(address: Any) -> Any:
    return address.decode() if isinstance(address, bytes) else address


def _has_something(made: socket.socket) -> bool:
    try:
        if made.type == socket.SOCK_DGRAM:
            made.recv(100)
        else:
            made.accept()[0].close()
    except BlockingIOError:
        return False
    return True
