"""What a tool server writes, a message at a time: JSON-RPC, one message a line, from a program that may write anything.

Pure, so that it can be fuzzed. A line is bounded. What is no message is passed over, as MCP's own clients do: a banner,
a log line, a byte order mark are no reason to lose the calls of others. Of a message only the envelope is read here, in
a time that its size bounds; the rest when somebody waits for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct

from l02.domain.weight import WEIGHT_IN_WORDS, is_too_heavy

LINE_BYTES = 8 * 1024 * 1024
"""The longest message of a server: half of what an agent's socket takes, as JSON may grow when it is written again."""
MAX_SKIPPED_BYTES = 8 * LINE_BYTES
"""Of a line that is too long, so much is passed over in search of its end."""
_REPAIRED_BYTES = LINE_BYTES // 2
_PIECE_CHARACTERS = 64 * 1024
_SHOWN_CHARACTERS = 100
_EDGE_BYTES = 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_VERSION = b'"2.0"'
_HALF_PAIR = re.compile("[\ud800-\udfff]")
_ID = re.compile(rb'"id"\s*:\s*"?(\d{1,18})"?\s*[,}]')
_T = TypeVar("_T")


class Message(Struct, frozen=True):
    """The envelope; a part that is missing is empty."""

    jsonrpc: Raw = Raw()
    id: Raw = Raw()
    method: Raw = Raw()
    params: Raw = Raw()
    result: Raw = Raw()
    error: Raw = Raw()

    @property
    def number(self) -> int | None:
        """The request that this answers, as a client counts them; some servers write it as text."""
        try:
            found = msgspec.json.decode(self.id, type=int, strict=False)
        except (msgspec.MsgspecError, UnicodeError):
            return None
        return found if bytes(self.id) not in (b"true", b"false", b"null") else None


class Unreadable(Struct, frozen=True):
    """A line that is no message; `number` is the request that it seems to answer."""

    shown: str
    number: int | None = None


class TooLong(Struct, frozen=True):
    """A line with more than `LINE_BYTES`; `number` is the request that it seems to answer."""

    number: int | None
    is_notification: bool = False


class Lines:
    """Cuts a server's output into messages, and holds no more than one line of `LINE_BYTES`."""

    def __init__(self) -> None:
        self._begun = bytearray()
        self._skipped = 0
        self._head = b""

    @property
    def size(self) -> int:
        """Bytes of the line that has begun."""
        return len(self._begun)

    def feed(self, chunk: bytes) -> Iterator[Message | Unreadable | TooLong]:
        """What these bytes complete, in order."""
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            self._begun += piece
            line = bytes(self._begun)
            self._begun.clear()
            if self._skipped or len(line) > LINE_BYTES:
                yield self._too_long(line)
            else:
                yield from _messages(line)
        self._begun += rest
        if len(self._begun) > LINE_BYTES or (self._skipped and len(self._begun) > _EDGE_BYTES):
            if not self._skipped:
                self._head = bytes(self._begun[:_EDGE_BYTES])
            self._skipped += len(self._begun) - _EDGE_BYTES
            del self._begun[:-_EDGE_BYTES]
            if self._skipped > MAX_SKIPPED_BYTES:
                yield TooLong(None)
                self._skipped = 1

    def _too_long(self, end: bytes) -> TooLong:
        head = self._head if self._skipped else end[:_EDGE_BYTES]
        self._skipped, self._head = 0, b""
        tail = end[-_EDGE_BYTES:]
        found = None
        if b'"jsonrpc"' in head + tail:
            found = _ID.search(head) or _last(_ID.finditer(tail))
        return TooLong(int(found[1]) if found else None, is_notification=b'"method"' in head)


def read(raw: Raw, type: type[_T]) -> _T:
    """A part of a message. Raises ValueError, in words, for one that is something else.

    Half a surrogate pair, which is no text, becomes U+FFFD in what has at most 4 MiB.
    """
    text = bytes(raw)
    _require_light(text)
    return _decode(text, type)


def _shown(line: bytes) -> str:
    """The beginning of a line, for people."""
    return repr(line[: 4 * _SHOWN_CHARACTERS].decode(errors="replace")[:_SHOWN_CHARACTERS])


def _messages(line: bytes) -> Iterator[Message | Unreadable]:
    line = line.removeprefix(_BYTE_ORDER_MARK).strip()
    if not line:
        return
    try:
        if line.startswith(b"["):  # MCP of 2025-03-26 has batches
            _require_light(line)
            yield from (_message(bytes(part)) for part in _decode(line, list[Raw]))
        else:
            yield _message(line)
    except ValueError:
        edges = line[:_EDGE_BYTES] + b" " + line[-_EDGE_BYTES:]
        found = _ID.search(edges) if b'"jsonrpc"' in edges and b'"method"' not in edges else None
        yield Unreadable(_shown(line), int(found[1]) if found else None)


def _message(line: bytes) -> Message | Unreadable:
    message = _decode(line, Message)
    return message if bytes(message.jsonrpc) == _VERSION else Unreadable(_shown(line))


def _decode(text: bytes, type: type[_T]) -> _T:
    try:
        try:
            return msgspec.json.decode(text, type=type)
        except (msgspec.DecodeError, UnicodeError):
            return msgspec.json.decode(_repaired(text), type=type)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _repaired(text: bytes) -> bytes:
    if not text.startswith((b"{", b"[", b'"')) or len(text) > _REPAIRED_BYTES:
        raise ValueError("it is not JSON")
    _require_light(text)
    value: Any = json.loads(text.decode(errors="replace"))
    whole = json.dumps(value, ensure_ascii=False)
    pieces = (whole[start : start + _PIECE_CHARACTERS] for start in range(0, len(whole), _PIECE_CHARACTERS))
    return "".join(_HALF_PAIR.sub("\ufffd", piece) for piece in pieces).encode()  # so that others get the lock between


def _require_light(text: bytes) -> None:
    if is_too_heavy(text):
        raise ValueError(f"it holds too much: {WEIGHT_IN_WORDS}")


def _last(found: Iterator[re.Match[bytes]]) -> re.Match[bytes] | None:
    last = None
    for match in found:
        last = match
    return last
