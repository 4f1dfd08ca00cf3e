"""A model for the demonstration: an endpoint of chat completions on loopback, which needs no key and no network.

It follows a script: it has `git_log` called a few times, each time for one commit more, and says who wrote them.
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

ROUNDS = 8
"""So often it has git asked."""
_BYTES_PER_TOKEN = 4
_AUTHOR = re.compile(r"^Author: (.*)$", re.MULTILINE)


class ScriptedModel:
    """The endpoint: its `url`, and how many tokens each of its `answers` has read and written."""

    def __init__(self, repository: str) -> None:
        self.url = ""
        self.answers: list[tuple[int, int]] = []
        self._repository = repository

    async def complete(self, request: Request) -> Response:
        """Answer a request, as a stream."""
        raw = await request.body()
        told = [said["content"] for said in msgspec.json.decode(raw)["messages"] if said["role"] == "tool"]
        self.answers.append((len(raw) // _BYTES_PER_TOKEN, 40))
        return StreamingResponse(self._events(told), media_type="text/event-stream")

    def _events(self, told: list[str]) -> Iterator[bytes]:
        if len(told) < ROUNDS:
            arguments = {"repo_path": self._repository, "max_count": len(told) + 1}
            function = {"name": "git_log", "arguments": msgspec.json.encode(arguments).decode()}
            call = {"index": 0, "id": f"call_{len(told)}", "type": "function", "function": function}
            yield _chunk(delta={"tool_calls": [call]})
            yield _chunk(finish="tool_calls")
        else:
            for word in re.findall(r"\S+\s*", in_words(authors(told[-1]))):
                yield _chunk(delta={"content": word})
            yield _chunk(finish="stop")
        read, written = self.answers[-1]
        yield _chunk(usage={"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written})
        yield b"data: [DONE]\n\n"


@asynccontextmanager
async def scripted_model(repository: str) -> AsyncIterator[ScriptedModel]:
    """Serve one while the context lasts."""
    model = ScriptedModel(repository)
    async with serving(Starlette(routes=[Route("/v1/chat/completions", model.complete, methods=["POST"])])) as url:
        model.url = f"{url}/v1"
        yield model


def authors(log: str) -> Counter[str]:
    """Who wrote the commits that `git_log` tells of."""
    return Counter(_AUTHOR.findall(log))


def in_words(counted: Counter[str]) -> str:
    """The model's answer."""
    return "The last commits are by " + ", ".join(f"{name} ({number})" for name, number in counted.most_common()) + "."


def _chunk(*, delta: dict[str, Any] | None = None, finish: str | None = None, usage: Any = None) -> bytes:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    chunk = {"id": "1", "object": "chat.completion.chunk", "model": "scripted", "choices": [] if usage else [choice]}
    return b"data: " + msgspec.json.encode(chunk | ({"usage": usage} if usage else {})) + b"\n\n"
