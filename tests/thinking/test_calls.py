"""Whatever a model wants to have called: what is wrong with a call goes back to it, and no call ends its agent."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l02.agent.context import Context, ToolError
from l02.agent.thinking.calls import MAX_CALLS, as_message, results_of, with_ids
from l02.agent.thinking.names import Names
from l02.bus.wire.agent.protocol import OfferedTool
from l02.bus.wire.agent.values import State
from l02.domain.inference import ToolCall
from l02.domain.values import MAX_DEPTH, is_deeper

NAMES = Names([OfferedTool("git.log", "d", {"type": "object"}, server="git")])
FAILED = ToolError("E2001", "TOOL_INVOCATION_FAILED", "no such commit", {"detail": [1]})


class Node:
    """Plays what stands behind a context: each call is kept, and answered with `result`."""

    def __init__(self, result: Any = "done") -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self._result = result

    async def call(self, kind: str, **fields: Any) -> Any:
        assert kind == "tool"
        self.calls.append((fields["tool"], fields["arguments"]))
        if isinstance(self._result, Exception):
            raise self._result
        return self._result

    def emit(self, delta: str) -> None:
        raise AssertionError(delta)

    async def results(self, *calls: ToolCall, room: int = 100_000, cut_off: bool = False) -> list[str]:
        ctx = Context("a", "x1", State({}), self)
        made = with_ids(calls, 7)
        messages = await results_of(ctx, made, NAMES, room, cut_off=cut_off)
        assert [message["tool_call_id"] for message in messages] == [call.id for call in made]
        return [message["content"] for message in messages]


def call(arguments: str = "{}", name: str = "log", id: str = "c1") -> ToolCall:
    return ToolCall(id=id, name=name, arguments=arguments)


async def test_a_tool_is_called_by_its_own_name() -> None:
    node = Node({"commits": 2})
    assert await node.results(call('{"n": 2}'), call("", id="c2")) == ['{"commits":2}'] * 2
    assert node.calls == [("git.log", {"n": 2}), ("git.log", {})], "no arguments are none"


@pytest.mark.parametrize(
    ("wished", "cut_off", "said"),
    [
        (call(name="push"), False, "error: there is no tool 'push'; there are: log"),
        (call('{"n": '), False, "error: the arguments are not JSON, so that the tool was not called"),
        (call('{"n": '), True, "error: the answer reached its limit before the arguments ended"),
        (call("[1]"), False, "error: the arguments are not an object"),
        (call('{"n":' * 200 + "1" + "}" * 200), False, "error: the arguments are nested too deeply"),
        (call('{"n":[' + "[]," * 100_000 + "1]}"), False, "error: the arguments hold more than 500,000 values"),
        (call('"\\ud800"'), False, "error: the arguments are not"),
    ],
)
async def test_what_cannot_be_called_is_told_to_the_model(wished: ToolCall, cut_off: bool, said: str) -> None:
    node = Node()
    bad, good = await node.results(wished, call(id="c2"), cut_off=cut_off)
    assert bad.startswith(said)
    assert good == "done"
    assert node.calls == [("git.log", {})]


async def test_a_failing_tool_is_told_with_all_it_said() -> None:
    said = await Node(FAILED).results(call())
    assert said == ['error: E2001 TOOL_INVOCATION_FAILED: no such commit\n{"detail":[1]}']


async def test_results_have_a_bound_that_the_model_sees_and_blobs_are_left_out() -> None:
    (text,) = await Node("x" * 100_000).results(call(), room=20_000)
    assert len(text) <= 5000
    assert text.endswith("bytes cut)")
    (text,) = await Node([{"type": "image", "data": "A" * 1000, "mimeType": "image/png"}]).results(call())
    assert text.startswith('[{"type":"image","data":"","mimeType":"image/png"}]\n(the bytes of images')


async def test_too_many_calls_and_calls_without_ids_are_each_answered() -> None:
    node = Node()
    calls = [call(id="" if number % 2 else "same") for number in range(MAX_CALLS + 3)]
    said = await node.results(*calls)
    assert len(node.calls) == MAX_CALLS
    assert said[MAX_CALLS:] == [f"error: only {MAX_CALLS} calls are made at once; this one was not"] * 3
    ids = [one.id for one in with_ids(calls, 7)]
    assert ids[:3] == ["same", "call_7_1", "call_7_2"]
    assert len(set(ids)) == len(ids)


def test_an_answer_as_it_stands_in_the_conversation() -> None:
    assert as_message("text", []) == {"role": "assistant", "content": "text"}
    function = {"name": "log", "arguments": "{"}
    wished = [{"id": "c1", "type": "function", "function": function}]
    assert as_message("", [call("{")]) == {"role": "assistant", "content": "", "tool_calls": wished}


@given(
    st.lists(st.builds(call, st.text(), st.sampled_from(["log", "x", ""]), st.sampled_from(["", "a", "b"])), min_size=1)
)
def test_whatever_a_model_says(calls: list[ToolCall]) -> None:
    node = Node()
    said = asyncio.run(node.results(*calls))
    assert len(said) == len(calls)
    assert all(not is_deeper(arguments, MAX_DEPTH) and msgspec.json.encode(arguments) for _, arguments in node.calls)
