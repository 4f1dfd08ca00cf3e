"""A request is recorded as what is new in it, and comes out of its record whole."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l02.bus.wire.agent.conversation import Asked, RecordedRequest, recorded, whole
from l02.domain.inference import ModelRequest

texts = st.sampled_from(["a", "b", "c", "d"])
messages = st.lists(texts.map(lambda text: {"role": "user", "content": text}), max_size=8)
requests = st.builds(
    lambda said, limit, tools: ModelRequest(messages=tuple(said), max_tokens=limit, tools=tuple(tools)),
    messages,
    st.sampled_from([None, 1, 2]),
    st.lists(st.just({"type": "function"}), max_size=1),
)


def said(*contents: Any) -> tuple[dict[str, Any], ...]:
    return tuple({"role": "user", "content": content} for content in contents)


def record(previous: ModelRequest | None, request: ModelRequest) -> RecordedRequest:
    before = None if previous is None else Asked.of("small", previous)
    return recorded(before, Asked.of("small", request), request)


@given(st.lists(requests, min_size=1, max_size=6))
def test_what_is_recorded_is_the_request(asked: list[ModelRequest]) -> None:
    known: ModelRequest | None = None
    for request in asked:
        stored = msgspec.json.encode(record(known, request))
        known = whole(known, msgspec.json.decode(stored, type=RecordedRequest))
        assert known == request


def test_a_conversation_that_goes_on_adds_what_is_new() -> None:
    first = ModelRequest(messages=said("a", "b"), max_tokens=5)
    assert record(None, first) == RecordedRequest(
        previous=None, keep=0, messages=said("a", "b"), options={"max_tokens": 5}
    )
    second = ModelRequest(messages=said("a", "b", "c"), max_tokens=5)
    before = Asked.of("small", first).sha256
    assert record(first, second) == RecordedRequest(previous=before, keep=2, messages=said("c"))


def test_one_that_was_cut_at_the_front_or_edited_adds_what_is_new() -> None:
    first = ModelRequest(messages=said("system", *range(100)))
    cut = ModelRequest(messages=said("system", *range(50, 100), "new"))
    assert record(first, cut).keep == 1
    assert record(first, cut).messages == ((51, 50), *said("new"))
    edited = ModelRequest(messages=said("system", *range(50), "edited", *range(51, 100)))
    assert record(first, edited).messages == (*said("edited"), (52, 49))


def test_other_options_are_said() -> None:
    first = ModelRequest(messages=said("a"), temperature=1.0, output_schema={"type": "object"})
    second = ModelRequest(messages=said("a"))
    assert record(first, second).options == {}
    assert whole(first, record(first, second)) == second


def test_the_hash_is_that_of_the_page() -> None:
    """Anybody can make it: docs/models.md."""
    request = ModelRequest(messages=said("é"), max_tokens=5)
    assert Asked.of("small", request).sha256 == "a1303deccd77604294a5cf9677ae57dc8f9f499ce53ecda20c149bf0b8fe4e76"


@pytest.mark.parametrize(
    "other",
    [
        ModelRequest(messages=said("b")),
        ModelRequest(messages=said("a", "a")),
        ModelRequest(messages=said("a"), temperature=1.0),
        ModelRequest(messages=said("a"), stream=True),
        ModelRequest(messages=({"content": "a", "role": "system"},)),
    ],
)
def test_another_request_has_another_hash(other: ModelRequest) -> None:
    assert Asked.of("small", other).sha256 != Asked.of("small", ModelRequest(messages=said("a"))).sha256


def test_one_and_one_point_nought_differ_and_the_order_of_keys_does_not_matter() -> None:
    one = Asked.of("m", ModelRequest(messages=({"role": "user", "content": 1},)))
    assert one.sha256 != Asked.of("m", ModelRequest(messages=({"role": "user", "content": 1.0},))).sha256
    assert one.sha256 == Asked.of("m", ModelRequest(messages=({"content": 1, "role": "user"},))).sha256
    assert one.sha256 != Asked.of("n", ModelRequest(messages=({"role": "user", "content": 1},))).sha256


def test_a_record_of_another_conversation_is_refused() -> None:
    long = ModelRequest(messages=said("a", "b"))
    with pytest.raises(ValueError, match="another request"):
        whole(ModelRequest(messages=()), record(long, long))
    with pytest.raises(ValueError, match="another request"):
        whole(None, RecordedRequest(previous="x", keep=0, messages=()))
