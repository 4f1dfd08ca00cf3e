"""A model's endpoint that says what a test tells it to: a real HTTP server on loopback, in all three shapes.

    async with scripted_endpoint() as endpoint:
        endpoint.script = lambda asked: Say("Hello", usage=(12, 3))        # of each request
        endpoint.say(Refuse(503), Say("Hello"))                            # or one after the other
        settings = {"small": [{"endpoint": endpoint.url, "model": "any"}]}  # api: chat, responses or anthropic
        ...
        assert endpoint.requests[0].body["messages"] == [...]

It runs in the test's own event loop. A script is a function (or a coroutine function) of what was `Asked`, which gives
what to answer: `Say` (text, tool calls, usage, as a stream if it was asked for one), `Refuse` (a status with a message)
or `Raw` (any bytes, for whatever no sane endpoint says). `say(...)` gives answers one after the other, the last of them
for ever. `Asked.gone` is set when the client has closed the connection before the answer's end. `python -m
tests.models.endpoint` serves alone, and says what it was asked.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from tests.models.shapes import SHAPES, Say


@dataclass
class Refuse:
    """A status that is no success, and what is said with it."""

    status: int
    message: str = "it is broken"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Raw:
    """Any bytes. Without a `length` the answer ends with the connection."""

    body: bytes | AsyncIterator[bytes] = b""
    status: int = 200
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    hang: bool = False
    """Keep the connection open behind the body, until the client closes it."""


@dataclass
class Hang:
    """Take the request, and say nothing until the client goes."""


@dataclass
class Drop:
    """Take the request, and close the connection."""


Answer = Say | Refuse | Raw | Hang | Drop


@dataclass
class Asked:
    """A request that has come."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    raw: bytes
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the client closed the connection before it had the whole answer."""

    @property
    def stream(self) -> bool:
        """Whether it wants a stream."""
        return bool(self.body.get("stream"))

    @property
    def shape(self) -> str:
        """chat, responses or anthropic."""
        return {"completions": "chat", "messages": "anthropic"}.get(self.path.rsplit("/", 1)[1], "responses")


Script = Callable[[Asked], Answer | Awaitable[Answer]]


class ScriptedEndpoint:
    """The server: its `url`, the `requests` it has seen, and the `script` it follows."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[Asked] = []
        self.script: Script = lambda asked: Say("Hello")
        self.connections = 0
        """So many have been opened."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._news = asyncio.Condition()

    def say(self, *answers: Answer) -> None:
        """Answer with these one after the other, and with the last for ever."""
        left = list(answers)
        self.script = lambda asked: left.pop(0) if len(left) > 1 else left[0]

    async def asked(self, number: int = 1) -> Asked:
        """The request of this number from 1, waited for."""
        async with self._news:
            await self._news.wait_for(lambda: len(self.requests) >= number)
        return self.requests[number - 1]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._request(reader, writer):
                    pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:]) if name}
        raw = await reader.readexactly(int(headers.get("content-length", 0)))
        asked = Asked(head[0].split(" ")[1], headers, json.loads(raw or b"{}"), raw)
        async with self._news:
            self.requests.append(asked)
            self._news.notify_all()
        answer = self.script(asked)
        if isinstance(answer, Awaitable):
            answer = await answer
        watch = asyncio.ensure_future(reader.read(1))
        sending = asyncio.ensure_future(self._answer(asked, answer, writer))
        try:
            await asyncio.wait({watch, sending}, return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                asked.gone.set()
                return False
            with suppress(ConnectionError):
                if not sending.result():
                    return False
        finally:
            for each in (watch, sending):
                each.cancel()
                with suppress(asyncio.CancelledError, ConnectionError):
                    await each
        return not reader.at_eof()

    async def _answer(self, asked: Asked, answer: Answer, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection stays open."""
        if isinstance(answer, Hang):
            await asyncio.Event().wait()
        if isinstance(answer, Hang | Drop):
            return False
        if isinstance(answer, Say):
            return await self._say(asked, answer, writer)
        if isinstance(answer, Refuse):
            body = json.dumps(SHAPES[asked.shape].error(answer.status, answer.message)).encode()
            writer.write(_head(answer.status, "application/json", len(body), answer.headers) + body)
            await writer.drain()
            return True
        writer.write(_head(answer.status, answer.content_type, None, {"connection": "close"} | answer.headers))
        if isinstance(answer.body, bytes):
            writer.write(answer.body)
        else:
            async for piece in answer.body:
                writer.write(piece)
                await writer.drain()
        await writer.drain()
        if answer.hang:
            await asyncio.Event().wait()
        return False

    async def _say(self, asked: Asked, answer: Say, writer: asyncio.StreamWriter) -> bool:
        shape = SHAPES[asked.shape]
        if not asked.stream:
            body = json.dumps(shape.whole(answer, asked.body)).encode()
            writer.write(_head(200, "application/json", len(body), answer.headers) + body)
            await writer.drain()
            return True
        writer.write(_head(200, "text/event-stream", None, {"transfer-encoding": "chunked"} | answer.headers))
        for at, event in enumerate(shape.events(answer, asked.body)):
            if answer.pause and at:
                await asyncio.sleep(answer.pause)
            if at == answer.break_after:
                return False
            if at == answer.hang_after:
                await asyncio.Event().wait()
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    async def close(self) -> None:
        """End every connection."""
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _head(status: int, content_type: str, length: int | None, headers: dict[str, str]) -> bytes:
    lines = {"content-type": content_type} | ({} if length is None else {"content-length": str(length)}) | headers
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} as scripted\r\n{text}\r\n".encode()


@asynccontextmanager
async def scripted_endpoint(port: int = 0) -> AsyncIterator[ScriptedEndpoint]:
    """A server on loopback as long as the context lasts."""
    endpoint = ScriptedEndpoint()
    server = await asyncio.start_server(endpoint.serve, "127.0.0.1", port, limit=1 << 26)
    endpoint.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield endpoint
    finally:
        server.close()
        await endpoint.close()


async def _alone() -> None:
    async with scripted_endpoint() as endpoint:
        print(endpoint.url, flush=True)
        number = 0
        while True:
            number += 1
            print(json.dumps((await endpoint.asked(number)).body), flush=True)


if __name__ == "__main__":
    asyncio.run(_alone())
