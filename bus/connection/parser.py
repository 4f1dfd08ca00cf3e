"""What a server sends, taken apart into messages.

nats-py holds all that came in one buffer, tries one regular expression after another at its head and moves the rest up
for each message; that was most of what receiving one costs. All that is no message is still left to it.
"""

from __future__ import annotations

from typing import Any

from nats.errors import ProtocolError
from nats.protocol import parser

_END = b"\r\n"
_PLAIN, _WITH_HEADERS = b"MSG ", b"HMSG"


class Parser(parser.Parser):
    """Tells `nc`, the client, of what has come. Begins anew with `reset`, when the connection is another."""

    nc: Any
    buf: bytearray
    _awaited: int
    """How many bytes there must be before `buf` is worth a look."""

    def reset(self) -> None:
        """Forget what had begun to arrive."""
        super().reset()
        self._awaited = 0

    async def parse(self, data: bytes = b"") -> None:
        """Pass on all messages that are whole with these bytes. Raises ProtocolError."""
        if self.buf:
            self.buf += data
            if len(self.buf) < self._awaited:
                return
            data = bytes(self.buf)
            self.buf.clear()
        begin = 0
        while begin < len(data):
            end = data.find(_END, begin)
            if end < 0:
                self._awaited = len(data) - begin + 1
                break
            kind = data[begin : begin + 4]
            if kind != _PLAIN and kind != _WITH_HEADERS:
                await self._control(data[begin : end + 2])
                begin = end + 2
                continue
            try:
                _, subject, sid, *reply, size = data[begin:end].split(b" ")
                headers_size = int(reply.pop()) if kind == _WITH_HEADERS else 0
                number, body, after = int(sid), end + 2, end + 4 + int(size)
            except (ValueError, IndexError) as error:
                raise ProtocolError("nats: malformed message") from error
            if after > len(data):
                self._awaited = after - begin
                break
            headers = data[body : body + headers_size] or None
            message = number, subject, reply[0] if reply else b"", data[body + headers_size : after - 2], headers
            begin = after
            if not self.nc.receive(*message):
                await self.nc._process_msg(*message)
        self.buf += data[begin:]

    async def _control(self, line: bytes) -> None:
        await super().parse(line)
        if self.buf:
            raise ProtocolError("nats: unknown protocol")
