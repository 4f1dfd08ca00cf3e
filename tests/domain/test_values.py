"""What stands for a large value is told from what only looks like it; and how deep a value may be."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from l02.domain.errors import ErrorCode, Failure
from l02.domain.values import MAX_DEPTH, ObjectReference, as_reference, require_shallow
from tests.domain.json_values import json_values

REFERENCE = ObjectReference(name="9f86", sha256="9f86d081", size=300_000)
AS_JSON = {"$object": "9f86", "sha256": "9f86d081", "size": 300_000}


def depth(value: Any) -> int:
    if not isinstance(value, dict | list):
        return 0
    return 1 + max(map(depth, value.values() if isinstance(value, dict) else value), default=0)


def nested(levels: int, *, in_objects: bool) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value} if in_objects else [value]
    return value


def test_a_reference_is_told_by_its_fields() -> None:
    assert msgspec.to_builtins(REFERENCE) == AS_JSON
    assert as_reference(AS_JSON) == REFERENCE


@pytest.mark.parametrize(
    "value",
    [
        None,
        "9f86",
        [AS_JSON],
        {},
        {**AS_JSON, "more": 1},
        {**AS_JSON, "$object": 1},
        {**AS_JSON, "sha256": None},
        {**AS_JSON, "size": "300000"},
        {**AS_JSON, "size": 1.5},
        {**AS_JSON, "size": True},
    ],
)
def test_what_only_looks_like_it_is_a_value(value: Any) -> None:
    assert as_reference(value) is None


@given(json_values | st.fixed_dictionaries({"$object": json_values, "sha256": json_values, "size": json_values}))
@example(AS_JSON)
def test_a_reference_says_all_there_was(value: Any) -> None:
    reference = as_reference(value)
    assert reference is None or msgspec.to_builtins(reference) == value


@given(json_values)
def test_what_is_shallow_is_taken(value: Any) -> None:
    assert depth(value) <= MAX_DEPTH
    require_shallow(value, "$.input")


@pytest.mark.parametrize("in_objects", [True, False])
def test_a_hundred_levels_and_no_more(in_objects: bool) -> None:
    require_shallow(nested(MAX_DEPTH, in_objects=in_objects), "$.input")
    for levels in (MAX_DEPTH + 1, 100_000):
        with pytest.raises(Failure) as caught:
            require_shallow(["beside", nested(levels - 1, in_objects=in_objects)], "$.input")
        assert (caught.value.code, caught.value.path) == (ErrorCode.COMMAND_INVALID, "$.input")
