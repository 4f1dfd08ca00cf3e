"""Where a server listens and who may enter, kept beside its data, so that clients find it again after a restart.

Loopback alone keeps no other local user out, so every server asks for a password.
"""

from __future__ import annotations

import random
import secrets
import socket
from pathlib import Path

import msgspec

from l02.bus.embedded.errors import ServerError
from l02.bus.embedded.private_file import write_private

HOST = "127.0.0.1"
USER = "l02"
# Below what Linux (32768) and macOS (49152) give to outgoing connections: one of these could otherwise take the
# port while the server restarts, even a client's own that reconnects to it.
_FIRST_PORT, _LAST_PORT = 20_000, 32_767


class Endpoint(msgspec.Struct, frozen=True):
    """A server's port and its password; the user is always `l02`."""

    port: int
    password: str

    def __repr__(self) -> str:
        return f"Endpoint(port={self.port})"

    @classmethod
    def load(cls, path: Path) -> Endpoint:
        """Return the remembered one; the first time, make it. Raises ServerError, OSError."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except FileNotFoundError:
            return cls(port=_choose_port(), password=secrets.token_hex(16))._remember(path)
        except msgspec.DecodeError as error:
            raise ServerError(f"{path} is damaged ({error}); restore it from a backup") from error

    def with_free_port(self, path: Path) -> Endpoint:
        """Return this one, or remember and return one with another port if this one's is taken."""
        if port_is_free(self.port):
            return self
        return Endpoint(port=_choose_port(), password=self.password)._remember(path)

    def _remember(self, path: Path) -> Endpoint:
        write_private(path, msgspec.json.encode(self))
        return self


def port_is_free(port: int) -> bool:
    """Whether a server could listen on it now. The servers set SO_REUSEADDR too, so old connections are no matter."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _choose_port() -> int:
    for port in random.sample(range(_FIRST_PORT, _LAST_PORT + 1), 100):
        if port_is_free(port):
            return port
    raise ServerError(f"no free port on {HOST} between {_FIRST_PORT} and {_LAST_PORT}")
