"""How node, zygote and child talk while an agent is being made; once it is, its socket is its own.

Node to zygote: fixed-size commands, a spawn with one descriptor attached. Everything else is a JSON frame behind its
length.
"""

from __future__ import annotations

import socket
import struct
from enum import IntEnum
from typing import TypeVar

import msgspec

COMMAND = struct.Struct("!II")
"""Operation, and the node's number for the agent."""
LENGTH = struct.Struct("!I")
FRAME_LIMIT = 16 * 1024 * 1024


class Operation(IntEnum):
    SPAWN = 1
    TERMINATE = 2
    KILL = 3


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The zygote has imported its modules."""

    pid: int


class Died(msgspec.Struct, frozen=True, tag="died"):
    """A child ended: its wait(2) status, its CPU time in seconds, its largest resident set in bytes."""

    number: int
    status: int
    cpu_seconds: float
    memory_peak_bytes: int


class Started(msgspec.Struct, frozen=True, tag="started"):
    """The child is confined and runs its entry next."""

    pid: int


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The child could not be made, and why."""

    reason: str


Report = Ready | Died
Answer = Started | Refused

T = TypeVar("T")


def encode_frame(message: object) -> bytes:
    """Put a message behind its length."""
    body = msgspec.json.encode(message)
    return LENGTH.pack(len(body)) + body


def send_frame(connection: socket.socket, message: object) -> None:
    """Send one message over a blocking socket."""
    connection.sendall(encode_frame(message))


def receive_frame(connection: socket.socket, kind: type[T]) -> T:
    """Receive one message from a blocking socket and not a byte more. Raises EOFError and msgspec errors."""
    (size,) = LENGTH.unpack(_receive(connection, LENGTH.size))
    if size > FRAME_LIMIT:
        raise ValueError(f"a frame of {size} bytes is longer than {FRAME_LIMIT}")
    return msgspec.json.decode(_receive(connection, size), type=kind)


def _receive(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise EOFError("the node closed the socket before its request was complete")
        data += part
    return bytes(data)
