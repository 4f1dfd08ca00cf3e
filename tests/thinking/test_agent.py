"""The rounds of the built-in agent, with a scripted model: when it calls, when it ends, and how it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l02.agent.answer import Answer
from l02.agent.context import ToolError
from l02.agent.testing import Outcome, Script, run
from l02.agent.thinking.agent import agent_of
from l02.agent.thinking.conversation import messages_in
from l02.domain.inference import FinishReason, ModelRequest, ModelUsage, ToolCall
from l02.domain.specification import ModelAgent

TOOLS = {"git.log": lambda **arguments: {"asked": arguments}, "git.push": lambda **arguments: 1 / 0}


def call(name: str, arguments: str = "{}", id: str = "c1") -> ToolCall:
    return ToolCall(id=id, name=name, arguments=arguments)


def answer(text: str, *calls: ToolCall, reason: FinishReason | None = None, output: Any = None) -> Answer:
    reason = reason or (FinishReason.TOOL_CALLS if calls else FinishReason.STOP)
    return Answer(text=text, model="m", finish_reason=reason, tool_calls=calls, output=output, usage=ModelUsage())


async def think(
    script: Script, message: Any = "hello", state: Mapping[str, Any] | None = None, window: int = 10_000, **model: Any
) -> Outcome:
    agent = agent_of("thinker", ModelAgent(alias="small", **model), window)
    return await run(agent, message, tools=TOOLS, models={"small": script}, state=state)


def asked(outcome: Outcome) -> list[ModelRequest]:
    return [one.request for one in outcome.calls if one.kind == "model"]


async def test_an_answer_is_streamed_and_kept() -> None:
    outcome = await think(["Good day."], prompt="Be brief.", max_tokens=50, temperature=0.5)
    assert outcome.output == "Good day."
    assert outcome.emitted == ["Good day."]
    (request,) = asked(outcome)
    assert request.messages == ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"})
    assert (request.max_tokens, request.temperature, request.stream) == (50, 0.5, True)
    assert [one["function"]["name"] for one in request.tools] == ["git_log", "git_push"]
    again = await think(["And you?"], "how are you?", outcome.state)
    assert [message["content"] for message in asked(again)[0].messages] == ["hello", "Good day.", "how are you?"]


async def test_tools_are_called_side_by_side_and_what_is_wrong_goes_back() -> None:
    calls = (
        call("git_log", '{"n": 2}'),
        call("git_push", id="c2"),
        call("nothing", id="c3"),
        call("git_log", "{", id="c4"),
    )
    outcome = await think([answer("Let me see.", *calls), "Done."])
    assert outcome.output == "Done."
    assert [one.kind for one in outcome.calls] == ["tools", "model", "tool", "tool", "model"]
    said, *results = asked(outcome)[1].messages[1:]
    assert (said["content"], len(said["tool_calls"])) == ("Let me see.", 4)
    assert [result["tool_call_id"] for result in results] == ["c1", "c2", "c3", "c4"]
    assert results[0]["content"] == '{"asked":{"n":2}}'
    assert results[1]["content"].startswith("error: E2001 TOOL_INVOCATION_FAILED: ZeroDivisionError")
    assert results[2]["content"].startswith("error: there is no tool 'nothing'")
    assert results[3]["content"].startswith("error: the arguments are not JSON")
    assert outcome.emitted == ["Let me see.", "\n\n", "Done."]


async def fails(script: Script, code: str, said: str, **more: Any) -> None:
    with pytest.raises(ToolError, match=said) as caught:
        await think(script, **more)
    assert caught.value.code == code


async def test_rounds_have_a_bound() -> None:
    called: list[int] = []

    def again(request: ModelRequest) -> Any:
        called.append(len(request.messages))
        return answer("", call("git_log"))

    await fails(again, "MAX_ROUNDS", "asked 3 times .model.max_rounds. .* raise max_rounds", max_rounds=3)
    assert called == [1, 3, 5], "what nobody would read is not called"


@pytest.mark.parametrize(
    ("reason", "code", "message"),
    [
        (FinishReason.LENGTH, "OUTPUT_TRUNCATED", "raise model.max_tokens"),
        (FinishReason.CONTENT_FILTER, "CONTENT_FILTERED", "finish_reason content_filter"),
    ],
)
async def test_half_an_answer_is_none(reason: FinishReason, code: str, message: str) -> None:
    await fails([answer("half", reason=reason)], code, message)


async def test_calls_that_were_cut_off_are_told_so_and_whole_ones_are_made() -> None:
    calls = (call("git_log"), call("git_log", '{"n": ', id="c2"))
    outcome = await think([answer("", *calls, reason=FinishReason.LENGTH), "Done."])
    whole, cut_off = asked(outcome)[1].messages[-2:]
    assert whole["content"] == '{"asked":{}}'
    assert cut_off["content"].startswith("error: the answer reached its limit before the arguments ended")


async def test_an_endpoint_that_takes_less_than_is_said_has_the_conversation_compacted() -> None:
    def script(request: ModelRequest) -> Any:
        if request.messages[0]["role"] == "system":
            return answer("SUMMARY")
        if sum(len(message["content"]) for message in request.messages) > 3000:
            return ToolError("E2003", "CONTEXT_OVERFLOW", "too long")
        return answer("Yes.")

    outcome = await think(["x" * 1500], "a" * 2000)
    outcome = await think(script, "b" * 1000, outcome.state)
    assert outcome.output == "Yes."
    assert outcome.state["conversation"]["compactions"] == 1
    kept = messages_in(outcome.state)
    assert kept[0]["content"].endswith("SUMMARY")
    assert [message["content"][:1] for message in kept[1:]] == ["b", "Y"]
    assert [one.model for one in outcome.calls if one.kind == "model"] == ["small"] * 4, (
        "refused, a summary of two pieces, asked"
    )


async def test_one_message_that_does_not_fit_fails_as_the_model_says() -> None:
    await fails(lambda _: ToolError("E2003", "CONTEXT_OVERFLOW", "too long"), "E2003", "too long", message="x" * 5000)


async def test_a_long_conversation_is_compacted_before_it_is_sent() -> None:
    state: Mapping[str, Any] = {}
    lengths: list[int] = []

    def script(request: ModelRequest) -> Any:
        is_summary = request.messages[0]["role"] == "system"
        if not is_summary:
            lengths.append(sum(len(message["content"]) for message in request.messages))
        return answer("SUMMARY" if is_summary else "y" * 300)

    for number in range(30):
        state = (await think(script, f"{number:03}" + "x" * 300, state, window=1000)).state
    assert max(lengths) <= 4 * 1000
    assert state["conversation"]["compactions"] > 2
    assert messages_in(state)[-2]["content"].startswith("029")


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


async def test_an_output_that_is_asked_for_by_a_schema_is_no_text() -> None:
    outcome = await think([answer('{"n": 1}', output={"n": 1})], output_schema=SCHEMA)
    assert outcome.output == {"n": 1}
    assert outcome.emitted == []
    assert asked(outcome)[0].output_schema == SCHEMA


_ANSWERS = st.builds(
    lambda text, calls, reason: answer(text, *calls, reason=reason),
    st.text(max_size=20),
    st.lists(
        st.builds(call, st.sampled_from(["git_log", "git_push", "x"]), st.sampled_from(["{}", "[", '{"n": 1}'])),
        max_size=3,
    ),
    st.sampled_from([None, None, None, *FinishReason]),
) | st.sampled_from(
    [ToolError("E2003", "CONTEXT_OVERFLOW", "too long"), ToolError("E2072", "TOKEN_BUDGET_EXCEEDED", "no")]
)
_CODES = {"MAX_ROUNDS", "OUTPUT_TRUNCATED", "CONTENT_FILTERED", "COMPACTION_FAILED", "E2003", "E2072"}


@settings(max_examples=150)
@given(st.lists(_ANSWERS, min_size=1, max_size=8), st.integers(1, 5), st.sampled_from([200, 10_000]))
def test_whatever_a_model_answers(answers: list[Any], max_rounds: int, window: int) -> None:
    """It ends, with an output or a code that says what to do; all that is sent is what an endpoint takes."""
    requests: list[ModelRequest] = []

    def script(request: ModelRequest) -> Any:
        requests.append(request)
        return answers[min(len(requests), len(answers)) - 1]

    try:
        outcome = asyncio.run(think(script, "x" * 100, window=window, max_rounds=max_rounds))
        assert isinstance(outcome.output, str)
    except ToolError as error:
        assert error.code in _CODES
    for request in requests:
        asked_for: list[str] = []
        for message in request.messages:
            if message["role"] == "tool":
                assert message["tool_call_id"] == asked_for.pop(0)
                continue
            assert not asked_for, "each call has its result, right behind it"
            assert message["content"] or message.get("tool_calls")
            asked_for = [one["id"] for one in message.get("tool_calls", ())]
