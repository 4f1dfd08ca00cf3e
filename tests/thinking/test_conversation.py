"""A conversation that has become too long: its beginning becomes a summary, nothing of it is lost in silence."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l02.agent.context import ToolError
from l02.agent.thinking.compaction import compact
from l02.agent.thinking.conversation import Conversation, Message, tool_result, user
from l02.agent.thinking.inputs import messages_of
from l02.bus.wire.agent.values import State
from l02.domain.inference import FinishReason, ModelAnswer


class Summariser:
    """Plays a model that makes summaries; it takes no more than `most` bytes."""

    def __init__(self, text: str = "SUMMARY", reason: FinishReason = FinishReason.STOP, most: int = 1 << 30) -> None:
        self.read: list[str] = []
        self._answer = ModelAnswer(text=text, model="m", finish_reason=reason)
        self._most = most

    async def __call__(self, messages: list[Message]) -> ModelAnswer:
        assert [message["role"] for message in messages] == ["system", "user"]
        if len(messages[1]["content"].encode()) > self._most:
            raise ToolError("E2003", "CONTEXT_OVERFLOW", "too long")
        self.read.append(messages[1]["content"])
        return self._answer

    @property
    def transcripts(self) -> list[str]:
        """What it was given to summarise, piece by piece."""
        return [read.split("<transcript>\n")[1].removesuffix("\n</transcript>") for read in self.read]


def conversation(*messages: Message, window: int = 1000) -> Conversation:
    made = Conversation([], 0, 0, window)
    made.add(*messages)
    return made


def said(text: str) -> Message:
    return {"role": "assistant", "content": text}


def called(number: int, result: str) -> list[Message]:
    call = {"id": f"c{number}", "type": "function", "function": {"name": "log", "arguments": f'{{"n": {number}}}'}}
    return [{"role": "assistant", "content": "", "tool_calls": [call]}, tool_result(f"c{number}", result)]


async def test_the_last_turns_stay_and_the_others_become_a_summary() -> None:
    talk = conversation(user("first " * 200), said("one"), user("second"), said("two"))
    model = Summariser()
    assert await compact(talk, model, 2000)
    assert talk.messages[1:] == [said("one"), user("second"), said("two")]
    assert talk.messages[0]["role"] == "user"
    assert talk.messages[0]["content"].startswith("[The conversation until here had become too long.")
    assert talk.messages[0]["content"].endswith("SUMMARY")
    assert "user: first first" in model.read[0]
    assert talk.compactions == 1
    assert talk.tokens == talk.bytes // 4, "of the new ones the model has counted none"


async def test_a_call_stays_with_its_result_and_what_the_user_wants_stays_too() -> None:
    talk = conversation(user("the task"), *called(1, "x" * 3000), *called(2, "y"), *called(3, "z"))
    model = Summariser()
    assert await compact(talk, model, 4000)
    assert [message["role"] for message in talk.messages] == ["user", "assistant", "tool", "assistant", "tool"]
    assert talk.messages[0]["content"].endswith("SUMMARY\n\n[What the user said last:]\nthe task")
    assert 'assistant calls log {"n": 1}' in model.read[0]
    talk.add(*called(4, "v" * 5000))
    assert await compact(talk, model, 4000)
    assert [message.get("tool_call_id") for message in talk.messages] == [None, None, "c4"]
    assert talk.messages[0]["content"].count("the task") == 1
    assert talk.messages[0]["content"].endswith("[What the user said last:]\nthe task"), "once more, not of the summary"


async def test_one_turn_alone_has_nothing_to_summarise() -> None:
    talk = conversation(user("x" * 100_000))
    assert not await compact(talk, Summariser(), 1000)
    assert talk.messages == [user("x" * 100_000)]


async def test_all_of_it_is_read_piece_by_piece_if_the_model_cannot_take_so_much() -> None:
    text = "".join(f"{number:05}é" for number in range(5000))
    talk = conversation(user(text), said("x"), window=100_000)
    model = Summariser(most=6000)
    assert await compact(talk, model, 1000)
    assert "".join(model.transcripts) == f"user: {text}"
    assert all("<summary_of_before>\nSUMMARY\n" in read for read in model.read[1:])


@pytest.mark.parametrize(
    ("model", "code"),
    [
        (Summariser(" "), "COMPACTION_FAILED"),
        (Summariser("x", FinishReason.CONTENT_FILTER), "COMPACTION_FAILED"),
        (Summariser(most=10), "E2003"),
    ],
)
async def test_without_a_summary_nothing_is_dropped(model: Summariser, code: str) -> None:
    before = [user("x" * 5000), said("y"), user("z")]
    talk = conversation(*before)
    with pytest.raises(ToolError) as caught:
        await compact(talk, model, 1000)
    assert caught.value.code == code
    assert talk.messages == before


async def test_a_summary_that_was_cut_off_says_so() -> None:
    talk = conversation(user("x" * 5000), said("y"))
    await compact(talk, Summariser("half", FinishReason.LENGTH), 1000)
    assert "half [the summary was cut off here]" in talk.messages[0]["content"]


def test_it_is_kept_and_goes_on() -> None:
    state = State({})
    talk = conversation(user("a"), said("b"))
    talk.counted(700)
    talk.keep(state)
    talk = Conversation.of(state, 1000)
    assert (talk.messages, talk.tokens, talk.is_too_long) == ([user("a"), said("b")], 700, False)
    talk.add(user("c" * 400))
    assert talk.is_too_long, "700 tokens, and a quarter of what came since"


def test_an_execution_changes_of_the_state_what_is_new() -> None:
    """The last part, and those behind it; all of them when it was compacted."""
    texts = [f"{number}" + "x" * 10_000 for number in range(10)]
    talk, stored = conversation(*map(user, texts[:8])), State({})
    talk.keep(stored)
    kept = dict(stored)
    assert kept["conversation"]["parts"] == 2
    state = State(kept)
    talk = Conversation.of(state, 1000)
    talk.add(*map(user, texts[8:]))
    talk.keep(state)
    assert state.changes().set.keys() == {"conversation", "conversation/2"}
    assert [message["content"] for message in Conversation.of(state, 1000).messages] == texts
    talk.replace_beginning(9, user("summary"))
    talk.keep(state)
    assert state.changes().set.keys() == {"conversation", "conversation/0"}
    assert state.changes().delete == ["conversation/1"], "the third was never stored"
    assert [message["content"] for message in Conversation.of(state, 1000).messages] == ["summary", texts[9]]


@pytest.mark.parametrize(
    "kept", ["something else", {"parts": "x"}, {"parts": 2}, {"parts": 1, "tokens": "many"}, {"messages": []}]
)
def test_something_else_in_its_place_is_said(kept: Any) -> None:
    with pytest.raises(ToolError) as caught:
        Conversation.of(State({"conversation": kept, "conversation/0": []}), 1000)
    assert caught.value.code == "STATE_INVALID"


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.sampled_from(["user", "said", "called"]), st.integers(0, 3000)), min_size=1, max_size=12),
    st.integers(1, 10_000),
)
def test_whatever_was_said(turns: list[tuple[str, int]], room: int) -> None:
    messages: list[Message] = []
    for number, (kind, size) in enumerate(turns):
        text = f"<{number}>" + "x" * size
        messages += {"user": [user(text)], "said": [said(text)], "called": called(number, text)}[kind]
    talk, model = conversation(*messages), Summariser()
    compacted = asyncio.run(compact(talk, model, room))
    kept = talk.messages[1:] if compacted else talk.messages
    assert kept == messages[len(messages) - len(kept) :]
    assert kept, "the newest turn stays"
    assert kept[0]["role"] != "tool"
    read = "".join(model.transcripts)
    whole = read + "".join(str(message["content"]) for message in talk.messages)
    assert all(f"<{number}>" in whole for number in range(len(turns)))


@pytest.mark.parametrize(
    ("given", "messages"),
    [
        ("hello", [user("hello")]),
        ({"path": "x"}, [user('{"path":"x"}')]),
        (None, [user("null")]),
        ({"messages": [user("a"), said("b")]}, [user("a"), said("b")]),
        ({"messages": [user("a")], "more": 1}, [user('{"messages":[{"role":"user","content":"a"}],"more":1}')]),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]},
            [{"role": "user", "content": [{"type": "text", "text": "a"}]}],
        ),
    ],
)
def test_what_an_input_means(given: Any, messages: list[Message]) -> None:
    assert messages_of(given) == messages


@pytest.mark.parametrize(
    "messages",
    [
        [],
        "x",
        None,
        [1],
        [{}],
        [{"role": "tool", "content": "x"}],
        [user("a") | {"x": 1}],
        [{"role": "user", "content": []}],
        [{"role": "user", "content": [1]}],
        [{"role": "user", "content": None}],
        [{"role": ["user"], "content": "x"}],
    ],
)
def test_messages_that_are_none(messages: Any) -> None:
    with pytest.raises(ToolError) as caught:
        messages_of({"messages": messages})
    assert caught.value.code == "INPUT_INVALID"
