"""Names that providers take: each tool has one, no two have the same, and it leads back to its tool."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from l02.agent.thinking.names import Names
from l02.bus.wire.agent.protocol import OfferedTool

SCHEMA = {"type": "object"}


def tool(name: str) -> OfferedTool:
    """`server/tool`, or one of the agent's own."""
    server, slash, rest = name.partition("/")
    return OfferedTool(f"{server}.{rest}" if slash else name, "d", SCHEMA, server=server if slash else UNSET)


def offered(*names: str) -> list[str]:
    return [one["function"]["name"] for one in Names(map(tool, names)).offered()]


def test_a_tool_has_its_own_name_where_no_other_has_it() -> None:
    assert offered("count", "git/git_log", "web/fetch") == ["count", "git_log", "fetch"]
    assert offered("log", "git/log", "web/log") == ["log", "git_log", "web_log"]


def test_what_a_provider_does_not_take_is_replaced() -> None:
    assert offered("ä.b/c d", "x/" + "y" * 100) == ["c_d", "y" * 64]
    assert offered("a/é", "a/ü") == ["a__", "a___2"]


def test_what_the_model_is_told() -> None:
    names = Names([tool("git/log")])
    function = {"name": "log", "description": "d", "parameters": SCHEMA}
    assert names.offered() == [{"type": "function", "function": function}]
    assert names.tool("log") == tool("git/log")
    assert names.tool("git.log") is None


@given(st.lists(st.text("ab./_é-", max_size=80), unique=True, max_size=20))
def test_every_tool_is_reached_by_a_name_of_its_own(given_names: list[str]) -> None:
    tools = {one.name: one for one in map(tool, given_names)}
    names = Names(tools.values())
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in names)
    reached = [names.tool(name) for name in names]
    assert sorted(one.name for one in reached if one) == sorted(tools)
