"""How messages become lines of a stream and lines become messages, within their bounds.

Standard library and msgspec only: it is loaded inside the sandbox.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import msgspec

from l02.bus.wire.agent.protocol import AgentMessage, NodeMessage, TooHeavy
from l02.bus.wire.agent.texts import cut

MAX_LINE = 16 * 1024 * 1024
"""Bytes of one message, without the newline that ends it."""

_encoder = msgspec.json.Encoder()


class ProtocolError(Exception):
    """What came over the socket is no message of this protocol, or what should go is too large for it."""


_from_agent: msgspec.json.Decoder[AgentMessage] = msgspec.json.Decoder(AgentMessage)
_envelope: msgspec.json.Decoder[TooHeavy] = msgspec.json.Decoder(TooHeavy)
_from_node: msgspec.json.Decoder[NodeMessage] = msgspec.json.Decoder(NodeMessage)


def encode(message: AgentMessage | NodeMessage) -> bytes:
    """The line of a message, newline included.

    Raises `ProtocolError` when it is over `MAX_LINE`, and what msgspec raises for a value that JSON cannot hold.
    """
    line = _encoder.encode(message)
    if len(line) > MAX_LINE:
        raise ProtocolError(f"the message has {len(line):,} bytes, and {MAX_LINE:,} (16 MiB) are allowed")
    return line + b"\n"


def decode_agent_message(line: bytes) -> AgentMessage:
    """The message an agent sent. Raises `ProtocolError` for anything else."""
    return _decode(_from_agent, line)


def decode_envelope(line: bytes) -> TooHeavy:
    """What is known of a message that is not built. Raises `ProtocolError` for what is none."""
    return _decode(_envelope, line)


def decode_node_message(line: bytes) -> NodeMessage:
    """The message a node sent. Raises `ProtocolError` for anything else."""
    return _decode(_from_node, line)


_MessageT = TypeVar("_MessageT")


def _decode(decoder: msgspec.json.Decoder[_MessageT], line: bytes) -> _MessageT:
    if len(line) > MAX_LINE:
        raise ProtocolError(f"a line is longer than {MAX_LINE:,} bytes (16 MiB)")
    try:
        return decoder.decode(line)
    except (ValueError, RecursionError) as error:  # msgspec's own errors and UnicodeDecodeError are ValueErrors
        raise ProtocolError(cut(f"not a message: {error}")) from error


class LineBuffer:
    """Cuts the bytes of a stream into lines, and holds no more than one line of `MAX_LINE`."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The lines which these bytes end, without their newlines.

        Raises `ProtocolError` once a line is over `MAX_LINE`.
        """
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            yield self._take(data[start:end])
            start = end + 1
        self._extend(data[start:])

    def _take(self, rest: bytes) -> bytes:
        self._extend(rest)
        line = bytes(self._bytes)
        self._bytes.clear()
        return line

    def _extend(self, data: bytes) -> None:
        if len(self._bytes) + len(data) > MAX_LINE:
            raise ProtocolError(f"a line is longer than {MAX_LINE:,} bytes (16 MiB)")
        self._bytes += data
