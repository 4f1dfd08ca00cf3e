"""What an agent is told of its tools: bounded, whatever servers say, and each by a name that leads to it."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from l02.bus.wire.agent.parts import NAME_BYTES
from l02.bus.wire.agent.protocol import Offer, ToolDescription
from l02.bus.wire.agent.texts import MESSAGE_BYTES
from l02.domain.specification import ToolServer
from l02.domain.values import MAX_DEPTH, is_deeper
from l02.handlers.executor.tools.offering import MAX_OFFER_BYTES, by_full_name, offered
from l02.handlers.tool_servers import ToolInfo, ToolNotRun
from tests.domain.json_values import json_values, texts

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}
SERVER = ToolServer(command=("x",), idempotent=("log",))
_NAMES = st.sampled_from(["a", "a.b", "b", "c", "a.b.c", "b.c", "", ".", "é" * 200])


def tools(*names: str, description: str = "d", schema: Any = None) -> dict[str, ToolInfo]:
    return {name: ToolInfo(name, description, SCHEMA if schema is None else schema) for name in names}


def names(offer: Offer) -> list[str]:
    return [tool.name for tool in offer.tools]


def test_own_tools_come_first_and_those_of_servers_have_their_names_before_them() -> None:
    own = [ToolDescription("count", "Counts.", SCHEMA, idempotent=True)]
    offer = offered(own, {"git": SERVER, "x": SERVER}, {"git": tools("log", "push"), "x": tools("log")})
    assert names(offer) == ["count", "git.log", "git.push", "x.log"]
    assert [tool.idempotent for tool in offer.tools] == [True, True, False, True]
    assert [tool.server for tool in offer.tools] == [msgspec.UNSET, "git", "git", "x"]
    assert msgspec.convert(msgspec.to_builtins(offer), Offer) == offer


def test_a_server_that_cannot_be_asked_is_said_and_takes_no_others_away() -> None:
    gone = ToolNotRun("no such program " + "x" * 5000)
    offer = offered([], {"gone": SERVER, "git": SERVER}, {"gone": gone, "git": tools("log")})
    assert names(offer) == ["git.log"]
    assert offer.problems[0].startswith("the tool server 'gone' cannot be started: no such program")
    assert len(offer.problems[0]) <= 1024


def test_a_tool_that_another_comes_before_is_none() -> None:
    own = [ToolDescription("a.d", "", SCHEMA)]
    offer = offered(own, {"a": SERVER, "a.b": SERVER}, {"a": tools("b.c", "c", "a.c", "d"), "a.b": tools("c")})
    assert names(offer) == ["a.d", "a.a.c", "a.b.c"], "a.c means the tool called just so, which is a.a.c in full"


def test_one_server_cannot_crowd_out_another() -> None:
    many = {f"t{number}": ToolInfo(f"t{number}", "d" * 5000, SCHEMA) for number in range(10_000)}
    deep: Any = {"type": "object"}
    for _ in range(200):
        deep = {"not": deep}
    odd = tools("deep", schema=deep) | tools("large", schema={"x": "y" * 70_000}) | tools("n" * 300)
    offer = offered([], {"many": SERVER, "odd": SERVER}, {"many": many, "odd": odd})
    told = {tool.name: tool for tool in offer.tools}
    assert "many.t0" in told
    assert told["odd.deep"].schema == told["odd.large"].schema == {"type": "object"}
    assert len(msgspec.json.encode(offer)) < MAX_OFFER_BYTES
    assert any("tools of the tool server 'many' are left out" in problem for problem in offer.problems)
    assert any("odd.deep, odd.large" in problem for problem in offer.problems)
    assert any(problem.startswith("1 tools of the tool server 'odd' are left out") for problem in offer.problems)


def test_only_what_the_specification_allows_is_told_and_names_that_mean_none_are_said() -> None:
    git = ToolServer(command=("x",), allow=("log", "pull"), ask=("pull", "push"))
    offer = offered([], {"git": git}, {"git": tools("log", "push")})
    assert names(offer) == ["git.log"]
    assert offer.problems == ("tools.git.allow names pull; tools.git.ask names pull: the server has no such tool",)
    asked = offered([], {"git": git}, {"git": tools("log", "pull", "push")}).tools
    assert [(tool.name, tool.asks) for tool in asked] == [("git.log", False), ("git.pull", True)]


@settings(max_examples=200)
@given(
    own=st.lists(_NAMES, unique=True),
    lists=st.dictionaries(_NAMES, st.dictionaries(_NAMES, json_values), max_size=4),
    description=texts,
)
def test_whatever_servers_say(own: list[str], lists: dict[str, dict[str, Any]], description: str) -> None:
    said = {
        server: {name: ToolInfo(name, description, {"a": schema}) for name, schema in of.items()}
        for server, of in lists.items()
    }
    offer = offered([ToolDescription(name, "", {}) for name in own], dict.fromkeys(said, SERVER), said)
    assert not is_deeper(msgspec.to_builtins(offer), MAX_DEPTH)
    for tool in offer.tools:
        assert len(tool.name.encode()) <= NAME_BYTES
        assert len(tool.description.encode()) <= MESSAGE_BYTES
        if tool.server:
            found = by_full_name(tool.name, said)
            assert found is not None
            assert tool.name == f"{tool.server}.{found[1]}"
            assert tool.name not in own
    assert len(set(names(offer))) == len(offer.tools)
