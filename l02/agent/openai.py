"""Clients of OpenAI's API inside a sandbox: what they send becomes `ctx.model`, and its answer comes back to them.

    client = AsyncOpenAI(http_client=http_client(ctx), api_key="none")
    model = ChatOpenAI(model="small", http_async_client=http_client(ctx), api_key="none")

Nothing leaves the sandbox by itself. `model` is an alias of the specification's `models`; chat completions and
responses are understood, with tools, schemas of answers and streams. A stream comes when the answer is whole: who
watches the execution sees the text before only if `say` is true, and then it is the node that says it.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import httpx2
import msgspec

from l02.agent.context import Context, ToolError
from l02.agent.openai_shapes import SHAPES, Unsupported

__all__ = ["Transport", "http_client"]

_STATUS = {
    "E2003": 400,
    "E2072": 429,
    "E2101": 503,
    "E2102": 504,
    "E2103": 429,
    "E2110": 400,
    "E2114": 403,
    "E2115": 413,
}
_BROKEN = 502
_NOT_AGAIN = {"x-should-retry": "false"}
"""The node has tried again what makes sense; another request would be another call, and cost again."""


class Transport(httpx2.AsyncBaseTransport):
    """Answers the requests of an `httpx2` or `httpx` client with what `ctx.model` gives."""

    def __init__(self, ctx: Context, *, say: bool = False) -> None:
        """`say`: text of answers that are streamed goes to whoever watches the execution, while it comes."""
        self._ctx = ctx
        self._say = say
        self._answered = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The answer; a failure of the model is a response with a status and an error in the provider's form."""
        library = sys.modules[type(request).__module__.partition(".")[0]]  # the response is of the request's library
        status, headers, body = await self._answer(request.url.path, await request.aread())
        content = _in_pieces(body) if isinstance(body, list) else body
        response = library.Response(status, headers=headers, content=content, request=request)
        return cast(httpx2.Response, response)

    async def _answer(self, path: str, raw: bytes) -> tuple[int, Mapping[str, str], bytes | list[bytes]]:
        shape = next((shape for ending, shape in SHAPES.items() if path.endswith(ending)), None)
        if shape is None:
            return _error(404, "NOT_FOUND", f"{path} is not there: only {' and '.join(SHAPES)} are")
        try:
            body = msgspec.json.decode(raw, type=dict[str, Any])
            streams = bool(body.get("stream"))
            asked = shape.asked(body)
        except (msgspec.MsgspecError, Unsupported, KeyError, TypeError, ValueError, AttributeError) as error:
            return _error(400, "COMMAND_INVALID", f"the request cannot be read: {error!r}")
        try:
            answer = await self._ctx.model(**asked, stream=streams and self._say)
        except ToolError as error:
            return _error(_STATUS.get(error.code, _BROKEN), error.name, str(error), error.code)
        self._answered += 1
        name = f"{self._ctx.execution_id}-{self._answered}"
        if streams:
            return 200, {"content-type": "text/event-stream"}, list(shape.events(name, answer, body))
        return 200, {"content-type": "application/json"}, msgspec.json.encode(shape.whole(name, answer, body))


def http_client(ctx: Context, *, say: bool = False) -> httpx2.AsyncClient:
    """A client for `openai.AsyncOpenAI(http_client=…)` or LangChain's `ChatOpenAI(http_async_client=…)`."""
    return httpx2.AsyncClient(transport=Transport(ctx, say=say))


async def _in_pieces(body: list[bytes]) -> AsyncIterator[bytes]:
    for piece in body:
        yield piece


def _error(status: int, name: str, message: str, code: str | None = None) -> tuple[int, Mapping[str, str], bytes]:
    error = {"message": message, "type": name.lower(), "code": code, "param": None}
    return status, {"content-type": "application/json", **_NOT_AGAIN}, msgspec.json.encode({"error": error})
