"""A conversation on a terminal: the last rounds of whatever stands in the state."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l02.cli.terminal.conversation_text import last_rounds
from tests.domain.json_values import json_values


def test_the_last_rounds_are_readable() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "git_log", "arguments": '{"n": 2}'}}
    messages: list[dict[str, Any]] = [
        *({"role": role, "content": f"{role} {number}"} for number in range(3) for role in ("user", "assistant")),
        {"role": "user", "content": "who?\nwhen?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "x" * 400},
        {"role": "assistant", "content": "Ada."},
    ]
    assert last_rounds({"conversation": {"parts": 1}, "conversation/0": messages}).splitlines() == [
        "(2 messages before)",
        *("user: user 1", "assistant: assistant 1", "user: user 2", "assistant: assistant 2"),
        "user: who? when?",
        '  calls git_log {"n": 2}',
        f"    → {'x' * 300}… (100 characters more)",
        "assistant: Ada.",
    ]


def test_where_there_is_none() -> None:
    assert last_rounds({}) == ""


@pytest.mark.parametrize("kept", [{"conversation": 1}, {"conversation": {"parts": 1}, "conversation/0": [1]}])
def test_where_something_else_is(kept: Any) -> None:
    assert last_rounds(kept).startswith("the state holds no conversation")


@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "role": json_values,
                "content": json_values,
                "tool_calls": json_values | st.just([{"function": {}}]),
            },
        )
    )
)
def test_whatever_stands_there(messages: list[Any]) -> None:
    assert isinstance(last_rounds({"conversation": {"parts": 1}, "conversation/0": messages}), str)
