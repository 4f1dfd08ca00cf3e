"""The requests of one MCP session, over a server's standard input and output.

Written here and not taken from the package `mcp`, as a server is shared: of what one says wrongly no more may fail than
the call that it belongs to, and whether a request went out before the connection was lost has to be known.
"""

from __future__ import annotations

import asyncio
import signal
from asyncio.subprocess import Process
from collections.abc import Callable
from itertools import count
from typing import Any

import msgspec
import structlog
from msgspec import Raw

from l02.handlers.sandbox.log import CHUNK_BYTES
from l02.handlers.tool_servers.messages import LINE_BYTES, Lines, Message, TooLong, Unreadable, read
from l02.handlers.tool_servers.model import Request, ToolFailed, ToolNotRun
from l02.handlers.tool_servers.results import read_error

METHOD_NOT_FOUND = -32601
UNREAD_BYTES = 1024 * 1024
"""Answers and cancellations that a server leaves unread in its pipe beyond this are dropped; requests wait instead."""
_MAX_ID_BYTES = 1024
_MESSAGES_A_TURN = 100
_AT_ONCE_BYTES = 64 * 1024
"""A longer line is read in a thread."""
_TOO_LONG = f"a message of more than {LINE_BYTES:,} bytes"
_log = structlog.get_logger()


class RequestRefused(Exception):
    """The server answered with an error: its code, and what is told of it as the cause."""

    def __init__(self, code: Any, refusal: ToolFailed) -> None:
        super().__init__(str(refusal))
        self.code = code
        self.refusal = refusal


class Rpc:
    """Requests to one process, and the answers.

    `lost` says why there can be no more, `noise` what the server wrote first that is no message, both in words.
    `changes` counts how often the server has said that its tools are others now.
    """

    def __init__(self, process: Process, name: str, on_lost: Callable[[str], None]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.name = name
        self.lost: str | None = None
        self.noise: str | None = None
        self.changes = 0
        self._process = process
        self._stdin = process.stdin
        self._stdout = process.stdout
        self._on_lost = on_lost
        self._turn = asyncio.Lock()
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[Raw]] = {}

    async def request(self, method: str, params: dict[str, Any], request: Request | None = None) -> Raw:
        """The result of a request. Given up, it is cancelled at the server too; `request` says whether it went out.

        Raises RequestRefused, and ToolFailed, or ToolNotRun if it did not go out, if no answer can come.
        """
        number = next(self._numbers)
        async with self._turn:
            await self._drain()
            try:
                line = _line({"id": number, "method": method, "params": params})
            except (UnicodeError, RecursionError) as error:
                raise ToolFailed(f"the arguments cannot be written as JSON: {error}") from error
            self._write(line)
            future = self._waiting[number] = asyncio.get_running_loop().create_future()
            if request is not None:
                request.sent = True
        try:
            result: Raw = await future
            return result
        except asyncio.CancelledError:
            if self.lost is None and method != "initialize":
                self.notify("notifications/cancelled", {"requestId": number, "reason": "nobody waits for it any more"})
            raise
        finally:
            del self._waiting[number]

    def notify(self, method: str, params: dict[str, Any]) -> None:
        """Say something that is not answered."""
        self._say({"method": method, "params": params})

    def lose(self, reason: str) -> None:
        """Give the connection up as failed. The first reason counts."""
        if self.lost is None:
            self.close(reason)
            self._on_lost(reason)

    def close(self, reason: str) -> None:
        """Give the connection up; all who wait are told."""
        if self.lost is None:
            self.lost = reason
            for future in self._waiting.values():
                _fail(future, ToolFailed(f"{self.name} {reason} before it answered"))

    async def read(self) -> None:
        """Take what the server writes until the connection is lost."""
        lines = Lines()
        try:
            while self.lost is None:
                chunk = await self._stdout.read(CHUNK_BYTES)
                if not chunk:
                    self.lose(await self._ending())
                messages = lines.feed(chunk)
                if lines.size > _AT_ONCE_BYTES and b"\n" in chunk:
                    messages = iter(await asyncio.to_thread(list, messages))
                for number, found in enumerate(messages, start=1):
                    self._take(found)
                    if number % _MESSAGES_A_TURN == 0:
                        await asyncio.sleep(0)  # however many there are
        finally:
            self.lose("cannot be read any more")

    def _take(self, found: Message | Unreadable | TooLong) -> None:
        match found:
            case Message():
                if found.method:
                    self._asked(found)
                else:
                    self._answered(found)
            case Unreadable():
                future = None if found.number is None else self._waiting.get(found.number)
                if future is not None:
                    _fail(future, ToolFailed(f"{self.name} answered with what is no result of a tool: {found.shown}"))
                elif self.noise is None:
                    self.noise = f"wrote on its standard output what is no MCP message: {found.shown}"
                    _log.warning("a tool server " + self.noise, server=self.name)
            case TooLong():
                future = None if found.number is None else self._waiting.get(found.number)
                if future is not None:
                    _fail(future, ToolFailed(f"{self.name} wrote {_TOO_LONG}"))
                elif found.number is None and not found.is_notification:
                    self.lose(f"wrote {_TOO_LONG}")

    def _answered(self, message: Message) -> None:
        """To a number that nobody waits for, such as a cancelled one's, is passed over."""
        number = message.number
        future = None if number is None else self._waiting.get(number)
        if future is None or future.done():
            return
        if message.error and bytes(message.error) != b"null":
            try:
                code, refusal = read_error(message.error)
            except ValueError as error:
                _fail(future, ToolFailed(f"{self.name} answered with an error that is none: {error}"))
            else:
                _fail(future, RequestRefused(code, refusal))
        elif message.result:
            future.set_result(message.result)
        else:
            _fail(future, ToolFailed(f"{self.name} answered with what is no result of a tool: nothing"))

    def _asked(self, message: Message) -> None:
        """The server's own requests: a ping is answered, all else is nothing that this client has promised."""
        try:
            method = read(message.method, str)
        except ValueError:
            return
        if method == "notifications/tools/list_changed":
            self.changes += 1
        if not message.id or not _is_id(message.id):
            return
        if method == "ping":
            self._say({"id": message.id, "result": {}})
        else:
            text = f"this client does not do {method[:100]!r}"
            self._say({"id": message.id, "error": {"code": METHOD_NOT_FOUND, "message": text}})

    def _say(self, message: dict[str, Any]) -> None:
        """Unless the server does not listen."""
        if self._stdin.transport.get_write_buffer_size() <= UNREAD_BYTES and not self._stdin.is_closing():
            self._stdin.write(_line(message))

    async def _drain(self) -> None:
        try:
            await self._stdin.drain()
        except OSError as error:
            raise ToolNotRun(f"{self.name} {self.lost or 'closed its standard input'}") from error

    def _write(self, line: bytes) -> None:
        if self.lost is None and self._stdin.is_closing():
            self.lose("closed its standard input")
        if self.lost is not None:
            raise ToolNotRun(f"{self.name} {self.lost}")
        self._stdin.write(line)

    async def _ending(self) -> str:
        code = await self._process.wait()
        return f"exited with code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"


def _line(message: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", **message}) + b"\n"


def _is_id(raw: Raw) -> bool:
    """An id that can be given back; null is none in MCP."""
    if len(bytes(raw)) > _MAX_ID_BYTES:
        return False
    try:
        msgspec.json.decode(raw, type=str | int | float)
    except (msgspec.MsgspecError, UnicodeError):
        return False
    return True


def _fail(future: asyncio.Future[Raw], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
