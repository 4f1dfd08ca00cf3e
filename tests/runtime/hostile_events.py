"""Events as nobody should store them: of every type, with hostile values in every field, by what the types allow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec import inspect

from l02.domain.kernel.message import Event

T = TypeVar("T")

_TEXTS = (
    "",
    "\0",
    "x1",
    "c1",
    "a.b",
    "*",
    ">",
    "../../etc",
    "\r\nPUB l02.evt.agent.x.spawned 0\r\n\r\n",
    "'; DROP TABLE agents; --",
    "\ud7ff\U0010ffff",
    "E2005",
    "PAYMENT_REFUSED",
    "signal",
    "checkpoint",
    "tool",
    "thread",
    "x" * 20_000,
)
_text = st.one_of(st.sampled_from(_TEXTS), st.text(max_size=20).filter(lambda text: text.isprintable()))
_int = st.sampled_from((0, 1, -1, 2**31, 2**63 - 1, 2**63, -(2**63), 2**64, 10**30))
_float = st.sampled_from((0.0, -0.0, -1.0, 0.5, 1e-300, 1e300, -1e300, 1.7976931348623157e308))
_json = st.recursive(
    st.one_of(st.none(), st.booleans(), _int, _float, _text),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_text, inner, max_size=3)),
    max_leaves=5,
)
_deep = st.just(msgspec.json.decode(b"[" * 90 + b"]" * 90))

HOSTILE_MESSAGES = (
    b"",
    b"\xff\xfe",
    b"null",
    b"{}",
    b"[" * 20_000,
    b'{"specversion":"1.0","type":"agent.spawned"}',
    b'{"ok":true,"result":{"id":"h1"}}',
    b"x" * 1_000_000,
)


def hostile_data(event_type: type[Event], texts: tuple[str, ...]) -> st.SearchStrategy[dict[str, Any]]:
    """Data of an event; among its texts are `texts`."""
    return _fields(inspect.type_info(event_type), st.one_of(st.sampled_from(texts), _text))


def _fields(info: Any, text: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({field.encode_name: hostile_value(field.type, text) for field in info.fields})


def hostile_value(info: Any, text: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """Values of a type, as `msgspec.inspect` tells it; bounds are not kept."""
    match info:
        case inspect.StrType():
            return text
        case inspect.IntType():
            return _int
        case inspect.FloatType():
            return _float
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
        case inspect.LiteralType():
            return st.sampled_from(info.values)
        case inspect.EnumType():
            return st.sampled_from([member.value for member in info.cls])
        case inspect.UnionType():
            return st.one_of([hostile_value(kind, text) for kind in info.types])
        case inspect.VarTupleType() | inspect.ListType():
            return st.lists(hostile_value(info.item_type, text), max_size=3)
        case inspect.DictType():
            return st.dictionaries(text, hostile_value(info.value_type, text), max_size=3)
        case inspect.StructType():
            return _fields(info, text)
        case inspect.CustomType():
            return st.none()
        case _:
            return st.one_of(_json, _deep)


def examples(strategy: st.SearchStrategy[T], count: int) -> list[T]:
    """`count` values, the same at each run."""
    found: list[T] = []

    def collect(value: T) -> None:
        found.append(value)

    generating: Callable[[], None] = settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )(given(strategy)(collect))
    generating()
    return found
