"""A model for the demonstration: an endpoint of chat completions on loopback, which needs no key and no network.

It follows a script: it has `git_log` called, and says who wrote the commits that it was told of.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from l02.node.http import serving

_AUTHOR = re.compile(r"^Author: (.*)$", re.MULTILINE)


class ScriptedModel:
    """The endpoint: its `url`, and the `requests` it has been sent."""

    def __init__(self, repository: str, commits: int, tokens: int) -> None:
        """`tokens` is what it says to have read for its first answer."""
        self.url = ""
        self.requests: list[dict[str, Any]] = []
        self._arguments = {"repo_path": repository, "max_count": commits}
        self._tokens = tokens

    async def complete(self, request: Request) -> Response:
        """Answer a request, as a stream."""
        asked = await request.json()
        self.requests.append(asked)
        told = [message["content"] for message in asked["messages"] if message["role"] == "tool"]
        return StreamingResponse(self._events(told), media_type="text/event-stream")

    def _events(self, told: list[str]) -> Iterator[bytes]:
        if told:
            for word in re.findall(r"\S+\s*", authors_in_words(told[-1])):
                yield _event({"content": word})
            yield _event({}, finish="stop")
            yield _usage(self._tokens + len(told[-1]) // 4, 20)
        else:
            function = {"name": "git_log", "arguments": msgspec.json.encode(self._arguments).decode()}
            yield _event({"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}]})
            yield _event({}, finish="tool_calls")
            yield _usage(self._tokens, 40)
        yield b"data: [DONE]\n\n"


@asynccontextmanager
async def scripted_model(repository: str, commits: int, tokens: int) -> AsyncIterator[ScriptedModel]:
    """Serve one while the context lasts."""
    model = ScriptedModel(repository, commits, tokens)
    async with serving(Starlette(routes=[Route("/v1/chat/completions", model.complete, methods=["POST"])])) as url:
        model.url = f"{url}/v1"
        yield model


def authors_in_words(log: str) -> str:
    """Who wrote the commits of git's log."""
    counted = Counter(_AUTHOR.findall(log)).most_common()
    return "The last commits are by " + ", ".join(f"{author} ({number})" for author, number in counted) + "."


def _event(delta: dict[str, Any], finish: str | None = None) -> bytes:
    return _chunk([{"index": 0, "delta": delta, "finish_reason": finish}])


def _usage(read: int, written: int) -> bytes:
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    return _chunk([], usage=usage)


def _chunk(choices: list[Any], **more: Any) -> bytes:
    chunk = {"id": "1", "object": "chat.completion.chunk", "model": "scripted", "choices": choices, **more}
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"
