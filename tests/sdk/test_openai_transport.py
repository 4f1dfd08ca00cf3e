"""The transport for OpenAI's clients serves those of both libraries, in an author's unit tests too."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import httpx
import httpx2
import openai
import pytest

from l02.agent import Agent, Context, ToolError
from l02.agent.openai import Transport, http_client
from l02.agent.testing import answer, run

ASKED = {"model": "small", "messages": [{"role": "user", "content": "how many?"}]}
URL = "http://anywhere/v1/chat/completions"


@pytest.mark.parametrize("library", [httpx, httpx2], ids=lambda library: library.__name__)
async def test_a_client_of_either_library(library: ModuleType) -> None:
    agent = Agent("a")

    @agent.on_message
    async def handle(ctx: Context, message: Any) -> Any:
        async with library.AsyncClient(transport=Transport(ctx)) as client:
            whole = await client.post(URL, json=ASKED)
            async with client.stream("POST", URL, json={**ASKED, "stream": True}) as response:
                lines = [line async for line in response.aiter_lines() if line]
            broken = await client.post(URL, content=b"[")
        return [whole.json()["choices"][0]["message"]["content"], lines[-1], broken.status_code]

    outcome = await run(agent, models={"small": ["four", "five"]})
    assert outcome.output == ["four", "data: [DONE]", 400]
    assert [call.kind for call in outcome.calls] == ["model", "model"]


@pytest.mark.parametrize(
    ("code", "error"),
    [("E2103", openai.RateLimitError), ("E2114", openai.PermissionDeniedError), ("E2100", openai.InternalServerError)],
)
async def test_a_failure_is_the_clients_own_and_not_tried_again(code: str, error: type[Exception]) -> None:
    agent = Agent("a")

    @agent.on_message
    async def handle(ctx: Context, message: Any) -> Any:
        client = openai.AsyncOpenAI(http_client=http_client(ctx), api_key="none")
        with pytest.raises(error, match=code):
            await client.chat.completions.create(model="small", messages=[{"role": "user", "content": "hi"}])

    outcome = await run(agent, models={"small": [ToolError(code, "NAME", "why"), answer("never")]})
    assert len(outcome.calls) == 1
