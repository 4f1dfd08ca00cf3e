"""The durable state: no change is lost in silence, nothing is kept that would be read back differently."""

from __future__ import annotations

import copy
import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l02.bus.wire.agent.protocol import Complete, StateChanges
from l02.bus.wire.agent.values import State, as_bytes, to_json
from tests.sdk.harness import agent

_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
_keys = st.sampled_from(["a", "b", "c"])
_steps = st.lists(
    st.tuples(st.sampled_from(["set", "delete", "read", "mutate", "setdefault", "pop"]), _keys, _json), max_size=12
)


def _apply(stored: dict[str, Any], changes: StateChanges) -> dict[str, Any]:
    """What a node does with the changes."""
    sent = msgspec.json.decode(msgspec.json.encode(changes), type=StateChanges)
    return {key: value for key, value in stored.items() if key not in sent.delete} | sent.set


@given(st.dictionaries(_keys, _json), _steps)
def test_what_is_stored_is_what_the_handler_left(stored: dict[str, Any], steps: list[tuple[str, str, Any]]) -> None:
    model, state = copy.deepcopy(stored), State(copy.deepcopy(stored))
    for step, key, value in steps:
        for target in (model, state):
            mine = copy.deepcopy(value)
            if step == "set":
                target[key] = mine
            elif step == "delete" and key in target:
                del target[key]
            elif step == "read":
                assert target.get(key) == model.get(key)
            elif step == "setdefault":
                held = target.setdefault(key, [])
                if isinstance(held, list):
                    held.append(mine)
            elif step == "pop":
                target.pop(key, None)
            elif step == "mutate" and isinstance(held := target.get(key), dict):
                held["new"] = mine
    assert dict(state) == model
    assert _apply(stored, state.changes()) == model


def test_only_what_changed_is_sent() -> None:
    state = State({"same": {"a": [1]}, "read": {"a": [1]}, "deep": {"a": [1]}, "gone": 1, "back": 1})
    assert state["read"] == {"a": [1]}
    state["deep"]["a"].append(2)
    del state["gone"]
    del state["back"]
    state["back"] = 2
    state["fleeting"] = 1
    del state["fleeting"]
    assert _plain(state.changes()) == ({"deep": {"a": [1, 2]}, "back": 2}, ["gone"])


def _plain(changes: StateChanges) -> tuple[dict[str, Any], list[str]]:
    return msgspec.json.decode(msgspec.json.encode(changes.set)), changes.delete


@pytest.mark.parametrize(
    "value",
    [
        (1, 2),
        {1, 2},
        {1: 2},
        datetime.datetime(2026, 1, 1),
        float("nan"),
        [float("inf")],
        pytest.param(object(), id="object"),
        "\ud800",
        {"$bytes": "Ynl0ZXM="},
        [b"bytes"],
        pytest.param(lambda: None, id="function"),
    ],
    ids=repr,
)
def test_a_value_that_would_be_read_back_differently_is_refused_where_it_is_set(value: object) -> None:
    state = State({})
    with pytest.raises(TypeError, match=r"ctx\.state\['key'\]"):
        state["key"] = value
    assert dict(state) == {}


def test_bytes_are_kept_as_what_they_are() -> None:
    state = State({"raw": {"$bytes": "AAE="}, "same": {"$bytes": "AAE="}})
    assert state["raw"] == state["same"] == b"\x00\x01"
    state["raw"] += b"\x02"
    state["new"] = b""
    assert _plain(state.changes()) == ({"raw": {"$bytes": "AAEC"}, "new": {"$bytes": ""}}, [])


@given(st.binary())
def test_any_bytes_come_back(value: bytes) -> None:
    state = State({})
    state["key"] = value
    assert State(_plain(state.changes())[0])["key"] == value


@pytest.mark.parametrize(
    "value", [{"$bytes": "not base64!"}, {"$bytes": 1}, {"$bytes": "AA==", "more": 1}, ["AA=="], 1]
)
def test_what_does_not_stand_for_bytes(value: object) -> None:
    assert as_bytes(value) is None


def test_a_key_is_text() -> None:
    with pytest.raises(TypeError, match="is text, not int"):
        State({})[1] = 1  # type: ignore[index]


def test_outputs_may_be_anything_that_becomes_json() -> None:
    class Point(msgspec.Struct):
        x: int | None

    assert to_json([Point(None), (1, None)], "it") == msgspec.Raw(b'[{"x":null},[1,null]]')
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for bad in (float("nan"), deep, 10**5000, {"a": [float("-inf"), None]}):
        with pytest.raises(TypeError, match="it is not a JSON value"):
            to_json(bad, "it")


async def test_state_over_the_socket(tmp_path: Path) -> None:
    source = """
from l02.agent import Agent
agent = Agent("tester")
@agent.on_message
async def handle(ctx, message):
    ctx.state["log"].append(message)
    ctx.state.setdefault("seen", []).append(message)
    del ctx.state["old"]
    if message == "fail": raise ValueError("no")
    return dict(ctx.state)
"""
    async with agent(source, tmp_path) as process:
        done = await process.run("m", {"log": [], "old": 1, "untouched": 2})
        assert isinstance(done, Complete)
        assert done.output == {"log": ["m"], "untouched": 2, "seen": ["m"]}
        assert done.state == StateChanges({"log": ["m"], "seen": ["m"]}, ["old"])
        fail = await process.run("fail", {"log": [], "old": 1})
        assert not hasattr(fail, "state")
