"""Every message of the agent protocol, spoiled in each of its fields in turn, by what its types allow and do not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st
from msgspec import inspect

from l02.bus.wire.agent.protocol import AgentMessage
from tests.runtime.hostile_events import hostile_value

BIG = "$BIG"
"""A text that the talker makes so many bytes of."""
BIG_BYTES = 5 << 20
_HEAVY: list[list[int]] = [[]] * 46_000
"""More than a message may hold."""
_ABSENT = object()
_WILD: st.SearchStrategy[Any] = st.sampled_from(
    [
        *(None, True, False, 0, 1, 2, -1, 1.0, 0.5, 10**30, 2**64, json.loads("[" * 150 + "]" * 150), [], {}, ["$ID"]),
        *("", "1", "\0", BIG, "$ID", "e" * 300, "\ud800", "x\udfffy", {"": None}, {"set": 1}, {"message": 1}),
    ]
)

_TOOL = {"call": 1, "kind": "tool", "after": 0, "tool": "own", "arguments": {"a": 1}}

TYPES = {kind.__struct_config__.tag: inspect.type_info(kind) for kind in AgentMessage.__args__}
KINDS: dict[str, dict[str, Any]] = {
    "hello": {"protocol": 1, "name": "t", "tools": [{"name": "own", "description": "", "schema": {}}]},
    "load_failed": {"message": "m"},
    "tool": {"call": 1, "tool": "absent", "arguments": {"a": 1}},
    "now": {"call": 1},
    "random": {"call": 1},
    "sleep": {"call": 1, "seconds": 0.0},
    "signal": {"call": 1, "name": "s", "timeout": 0.0},
    "checkpoint": {"call": 1, "label": "l", "state": {"set": {"k": 1}, "delete": ["d"]}},
    "tool_result": {"call": 1, "ok": True, "result": 1},
    "tool_error": {"call": 1, "ok": False, "error": {"message": "m"}},
    "emit": {"n": 0, "delta": "d"},
    "complete": {"output": 1, "state": {"set": {"k": 1}, "delete": ["d"]}},
    "fail": {"message": "m", "code": "MINE", "name": "N"},
    "pong": {},
    "steps": {
        "steps": [{"call": 1, "kind": "now", "after": 0, "result": 1.0}, {"call": 1, "kind": "thread", "after": 0}]
    },
    "steps_done": {"steps": [_TOOL | {"ok": True, "result": 1}]},
    "steps_failed": {"steps": [_TOOL | {"ok": False, "result": {"code": "E2001", "message": "m"}}]},
    "begin": {"call": 1, "tool": "own"},
    "diverged": {"message": "m"},
}
"""Good ones, by what they are for."""
OF_STEPS = ("steps", "steps_done", "steps_failed", "begin", "diverged")
"""Those that only one may say who has offered it."""
_CALLS = ("tool", "now", "random", "sleep", "signal", "checkpoint")
_TYPE_OF = dict.fromkeys(_CALLS, "call") | {"tool_error": "tool_result"}
_TYPE_OF |= dict.fromkeys(("steps_done", "steps_failed"), "steps")

NOISE = (
    *("", " ", "null", "true", "[]", "[[]]", "1", '"hello"', "{}", "{", "}", '{"type"}', '{"type": "pong"', "NaN"),
    *('{"type": null}', '{"type": 1}', '{"type": "?"}', '{"type": "execute"}', '{"type": "pong"}{}', "\ufeff{}"),
    *('{"type": "pong", "a": NaN}', '{"type": "pong", "a": "\x01"}', "nul\0", "[" * 100_000, '{"a":' * 20_000),
    *('{"type": "emit", "execution_id": "$ID", "n": 1e400, "delta": ""}', "\ud800", "\x1b[31m", "9" * 5000),
)
"""Lines that are no message."""


def line(kind: str, **fields: Any) -> str:
    """A good message, but for these fields."""
    return json.dumps(_message(kind) | fields)


def _message(kind: str) -> dict[str, Any]:
    message = {"type": _TYPE_OF.get(kind, kind), "execution_id": "$ID"} | deepcopy(KINDS[kind])
    if kind in _CALLS:
        message["kind"] = kind
    return message


def places(kind: str) -> Iterator[tuple[str, ...]]:
    """The fields of the message, also those of the objects in it, its type, and a field that is not known.

    What all calls have is told of one kind of them only.
    """
    found = [*_places(TYPES[_TYPE_OF.get(kind, kind)], ()), ("type",), ("more",)]
    if kind in _CALLS:
        others = {name for one in _CALLS for name in KINDS[one]} - {"call"} - KINDS[kind].keys()
        shared = set() if kind == _CALLS[0] else {"type", "more", "execution_id", "call", "kind"}
        found = [place for place in found if place[0] not in others | shared]
    yield from found


def _places(info: Any, at: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for field in info.fields:
        place = (*at, field.encode_name)
        yield place
        for inner in _structs(field.type):
            yield from _places(inner, place)


def _structs(info: Any) -> Iterator[Any]:
    match info:
        case inspect.StructType():
            yield info
        case inspect.UnionType():
            for kind in info.types:
                yield from _structs(kind)
        case inspect.ListType():
            yield from _structs(info.item_type)


def spoiled(kind: str, place: tuple[str, ...]) -> st.SearchStrategy[str]:
    """The message with another value there, or none."""
    wanted = _type_at(TYPES[_TYPE_OF.get(kind, kind)], place)
    allowed = st.nothing() if wanted is None else hostile_value(wanted, st.sampled_from([BIG, "$ID", "own"]))
    values = st.one_of(st.just(_ABSENT), allowed, _WILD, st.just(_HEAVY))
    return values.map(lambda value: json.dumps(_with(_message(kind), place, value)))


def any_line() -> st.SearchStrategy[str]:
    """Any of those, a good one, or noise."""
    each = [spoiled(kind, place) for kind in KINDS for place in places(kind)]
    good = st.builds(line, st.sampled_from([*KINDS]))
    later = st.builds(lambda kind, number: line(kind, call=number), st.sampled_from(_CALLS), st.integers(1, 4))
    return st.one_of(good, later, st.one_of(each), st.sampled_from(NOISE), st.text(max_size=50).map(_in_one_line))


def _in_one_line(text: str) -> str:
    return text.replace("\n", " ").replace("$", "S")


def _type_at(info: Any, place: tuple[str, ...]) -> Any:
    for name in place:
        structs = [*_structs(info)]
        field = next((one for one in structs[0].fields if one.encode_name == name), None) if structs else None
        if field is None:
            return None
        info = field.type
    return info


def _with(value: Any, place: tuple[str, ...], new: Any) -> Any:
    """`value`, in which `place` holds `new`; in every item if there is a list on the way."""
    if isinstance(value, list):
        return [_with(item, place, new) for item in value]
    first, *rest = place
    changed = dict(value)
    if rest:
        changed[first] = _with(changed.get(first, {}), tuple(rest), new)
    elif new is _ABSENT:
        changed.pop(first, None)
    else:
        changed[first] = new
    return changed
