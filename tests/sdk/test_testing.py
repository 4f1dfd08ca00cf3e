"""The aid for authors' unit tests does what a node does."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from l02.agent import Agent, Context, ToolError
from l02.agent.answer import Answer
from l02.agent.testing import Outcome, Script, answer, run
from l02.bus.wire.agent.protocol import StateChanges
from l02.domain.inference import ModelRequest


async def test_a_handler_with_everything() -> None:
    agent = Agent("a")

    @agent.tool
    def double(n: int) -> int:
        return 2 * n

    @agent.on_message
    async def handle(ctx: Context, message: Any) -> Any:
        began = await ctx.now()
        await ctx.sleep(30)
        assert await ctx.wait_for_signal("absent", timeout=30) is None
        assert await ctx.now() - began == timedelta(seconds=60)
        ctx.emit("hello")
        ctx.state["list"].append(await ctx.wait_for_signal("here"))
        del ctx.state["old"]
        both = await asyncio.gather(ctx.tool("double", n=4), ctx.tool("fetch", url=message))
        return [*both, await ctx.random(), ctx.agent_name]

    async def fetch(url: str) -> str:
        return url + "!"

    state = {"list": [], "old": 1, "kept": 2}
    outcome = await run(agent, "u", tools={"fetch": fetch}, signals={"here": "now"}, state=state)
    assert outcome.output[:2] == [8, "u!"]
    assert outcome.output[3] == "a"
    assert 0 <= outcome.output[2] < 1
    assert outcome.state == {"list": ["now"], "kept": 2}
    assert outcome.emitted == ["hello"]
    assert [call.kind for call in outcome.calls] == [
        "now",
        "sleep",
        "signal",
        "now",
        "signal",
        "tool",
        "tool",
        "random",
    ]
    assert [call.call for call in outcome.calls] == list(range(1, 9))
    assert outcome.calls[6].arguments == {"url": "u"}
    assert state == {"list": [], "old": 1, "kept": 2}  # the caller's is left alone


async def test_state_of_bytes_and_a_checkpoint() -> None:
    agent = Agent("a")

    @agent.on_message
    async def handle(ctx: Context, message: Any) -> Any:
        ctx.state["raw"] += b"\xff"
        return [await ctx.checkpoint("half"), await ctx.checkpoint()]

    outcome = await run(agent, state={"raw": b"\x00", "text": "t"})
    assert outcome.output == ["checkpoint-1", "checkpoint-2"]
    assert outcome.state == {"raw": b"\x00\xff", "text": "t"}
    assert [(call.kind, call.label) for call in outcome.calls] == [("checkpoint", "half"), ("checkpoint", None)]
    assert outcome.calls[0].state == StateChanges({"raw": {"$bytes": "AP8="}}, [])


@pytest.mark.parametrize("label", ["", "x" * 201, 5])
async def test_a_label_is_a_short_text(label: Any) -> None:
    agent = Agent("a")

    @agent.on_message
    async def handle(ctx: Context, message: Any) -> Any:
        return await ctx.checkpoint(label)

    with pytest.raises(ValueError, match="1 to 200 characters"):
        await run(agent)


async def test_a_generator() -> None:
    agent = Agent("a")

    @agent.on_message
    async def handle(ctx: Context, message: Any) -> Any:
        yield "a"
        yield "b"

    assert await run(agent) == Outcome("ab", {}, [], ["a", "b"])


@pytest.mark.parametrize(
    ("tools", "text"),
    [
        ({}, "a has no tool 'fetch'"),
        ({"fetch": lambda: None}, "TypeError: .*unexpected keyword argument 'url'"),
        ({"fetch": lambda url: 1 / 0}, "ZeroDivisionError: division by zero"),
        ({"fetch": lambda url: object()}, "the result of fetch is not a JSON value"),
    ],
)
async def test_what_a_stand_in_raises_is_a_failed_call(tools: dict[str, Any], text: str) -> None:
    agent = Agent("a")

    @agent.on_message
    async def handle(ctx: Context, message: Any) -> None:
        await ctx.tool("fetch", url="u")

    with pytest.raises(ToolError, match=text) as caught:
        await run(agent, tools=tools)
    assert (caught.value.code, caught.value.name) == ("E2001", "TOOL_INVOCATION_FAILED")


async def test_a_stand_in_may_fail_as_a_node_does() -> None:
    agent = Agent("a")

    @agent.on_message
    async def handle(ctx: Context, message: Any) -> Any:
        try:
            await ctx.tool("fetch")
        except ToolError as error:
            return error.code

    async def late() -> None:
        raise ToolError("E2002", "TOOL_TIMEOUT", "too late")

    assert (await run(agent, tools={"fetch": late})).output == "E2002"


async def test_a_wait_that_would_never_end_is_said() -> None:
    agent = Agent("a")

    @agent.on_message
    async def handle(ctx: Context, message: Any) -> None:
        await ctx.wait_for_signal("approve")

    with pytest.raises(ToolError, match="waits for the signal 'approve' for ever"):
        await run(agent)


async def test_an_agent_without_a_handler() -> None:
    with pytest.raises(TypeError, match="a has no handler"):
        await run(Agent("a"))


async def test_models_answer_as_they_are_scripted() -> None:
    agent = Agent("a")

    @agent.on_message
    async def handle(ctx: Context, message: Any) -> Any:
        first = await ctx.model("how many?", "small", tools=[{"type": "function"}], stream=True)
        second = await ctx.model([{"role": "user", "content": first.text}], "large", output_schema={"type": "object"})
        with pytest.raises(ToolError, match="E2103"):
            await ctx.model("again", "small")
        with pytest.raises(ToolError, match="E2114"):
            await ctx.model("again", "absent")
        return [first.tool_calls[0].arguments, first.finish_reason, second.output, second.usage.tokens, second.cost]

    async def large(request: ModelRequest) -> Answer:
        assert request.output_schema == {"type": "object"}
        return answer(output=request.messages[0]["content"], input_tokens=5, output_tokens=2, cost=0.5)

    models: dict[str, Script] = {
        "small": [answer("let me see", tool_calls=[("count", {"n": 1})]), ToolError("E2103", "RATE_LIMITED", "later")],
        "large": large,
    }
    outcome = await run(agent, models=models)
    assert outcome.output == ['{"n": 1}', "tool_calls", "let me see", 7, 0.5]
    assert outcome.emitted == ["let me see"]


async def test_a_model_is_asked_for_json_values_only() -> None:
    agent = Agent("a")

    @agent.on_message
    async def handle(ctx: Context, message: Any) -> Any:
        with pytest.raises(TypeError, match="messages is not a JSON value"):
            await ctx.model([{"role": "user", "content": float("nan")}], "small")
        return (await ctx.model("hello", "small")).text

    assert (await run(agent, models={"small": ["hi"]})).output == "hi"
