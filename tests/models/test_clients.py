"""The providers' own clients understand the scripted endpoint: what the bridge is tested against is true."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.models.endpoint import Refuse, ScriptedEndpoint
from tests.models.shapes import Call, Say

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from openai import AsyncOpenAI

SAY = Say("Let me see", [Call("add", '{"n": 1}', "c1"), Call("add", '{"n": 2}', "c2")], usage=(100, 20, 60))
TOOL: Any = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
MESSAGES: Any = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def openai(endpoint: ScriptedEndpoint) -> AsyncOpenAI:
    from openai import AsyncOpenAI  # a second, for the workers too that run none of these

    endpoint.say(SAY)
    return AsyncOpenAI(base_url=endpoint.url, api_key="any", max_retries=0)


@pytest.fixture
def anthropic(endpoint: ScriptedEndpoint) -> AsyncAnthropic:
    from anthropic import AsyncAnthropic

    endpoint.say(SAY)
    return AsyncAnthropic(base_url=endpoint.url.removesuffix("/v1"), api_key="any", max_retries=0)


async def test_chat(openai: AsyncOpenAI) -> None:
    whole = await openai.chat.completions.create(model="any", messages=MESSAGES, tools=[TOOL])
    async with openai.chat.completions.stream(
        model="any", messages=MESSAGES, tools=[TOOL], stream_options={"include_usage": True}
    ) as stream:
        streamed = await stream.get_final_completion()
    for completion in (whole, streamed):
        [choice] = completion.choices
        assert (choice.message.content, choice.finish_reason) == ("Let me see", "tool_calls")
        calls = [call for call in choice.message.tool_calls or () if call.type == "function"]
        assert [(call.id, call.function.arguments) for call in calls] == [("c1", '{"n": 1}'), ("c2", '{"n": 2}')]
        usage = completion.usage
        assert usage is not None and usage.prompt_tokens_details is not None
        assert (usage.prompt_tokens, usage.completion_tokens) == (100, 20)
        assert usage.prompt_tokens_details.cached_tokens == 60


async def test_responses(openai: AsyncOpenAI) -> None:
    whole = await openai.responses.create(model="any", input="Hi")
    async with openai.responses.stream(model="any", input="Hi") as stream:
        texts = [event.delta async for event in stream if event.type == "response.output_text.delta"]
        streamed = await stream.get_final_response()
    assert texts == ["Let", " me", " see"]
    for response in (whole, streamed):
        assert (response.output_text, response.status) == ("Let me see", "completed")
        calls = [item for item in response.output if item.type == "function_call"]
        assert [(call.call_id, call.arguments) for call in calls] == [("c1", '{"n": 1}'), ("c2", '{"n": 2}')]
        assert response.usage is not None
        assert (response.usage.input_tokens, response.usage.output_tokens) == (100, 20)
        assert response.usage.input_tokens_details.cached_tokens == 60


async def test_messages(anthropic: AsyncAnthropic) -> None:
    whole = await anthropic.messages.create(model="any", messages=MESSAGES, max_tokens=10)
    async with anthropic.messages.stream(model="any", messages=MESSAGES, max_tokens=10) as stream:
        texts = [text async for text in stream.text_stream]
        streamed = await stream.get_final_message()
    assert texts == ["Let", " me", " see"]
    for message in (whole, streamed):
        assert message.stop_reason == "tool_use"
        assert [block.text for block in message.content if block.type == "text"] == ["Let me see"]
        calls = [(block.id, block.input) for block in message.content if block.type == "tool_use"]
        assert calls == [("c1", {"n": 1}), ("c2", {"n": 2})]
        usage = message.usage
        assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (40, 60, 20)


async def test_errors(openai: AsyncOpenAI, anthropic: AsyncAnthropic, endpoint: ScriptedEndpoint) -> None:
    from anthropic import APIStatusError as AnthropicError
    from openai import APIStatusError

    endpoint.say(Refuse(429, "slowly"))
    with pytest.raises(APIStatusError, match="slowly") as refused:
        await openai.chat.completions.create(model="any", messages=MESSAGES)
    with pytest.raises(AnthropicError, match="rate_limit_error.*slowly") as refused_too:
        await anthropic.messages.create(model="any", messages=MESSAGES, max_tokens=10)
    assert (refused.value.status_code, refused_too.value.status_code) == (429, 429)
