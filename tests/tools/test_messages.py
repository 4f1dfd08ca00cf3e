"""Bytes become messages, however they are cut, and results values, whatever stands in them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from l02.bus.wire.agent.meter import ContextMeter
from l02.domain.errors import Failure
from l02.handlers.tool_servers import ToolRefused
from l02.handlers.tool_servers.messages import LINE_BYTES, MAX_SKIPPED_BYTES, Lines, Message, TooLong, Unreadable, read
from l02.handlers.tool_servers.results import MESSAGE_CHARACTERS, read_error, read_result

IMAGE = {"type": "image", "data": "AAAA", "mimeType": "image/png"}
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def fed(*chunks: bytes) -> list[Any]:
    lines = Lines()
    return [
        (found.number, json.loads(bytes(found.result))) if isinstance(found, Message) else found
        for chunk in chunks
        for found in lines.feed(chunk)
    ]


def answer(number: object, result: object = 1) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": number, "result": result}).encode() + b"\n"


@given(st.binary(max_size=60) | st.lists(st.sampled_from([answer(1), b"\n", b"[", b'"', b"\\ud83d"])).map(b"".join))
def test_any_bytes_cut_anywhere(data: bytes) -> None:
    whole = fed(data)
    assert fed(*(data[at : at + 1] for at in range(len(data)))) == whole
    assert fed(data + b"\n" + answer(7))[-1] == (7, 1), "the next message is found"


@given(JSON_VALUES)
def test_what_json_holds_is_read_as_it_is(value: Any) -> None:
    (found,) = Lines().feed(answer(1, value))
    assert isinstance(found, Message)
    as_text = json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert read(found.result, object) == json.loads(as_text)


@given(st.text(st.characters(codec=None), max_size=20))
def test_half_of_a_surrogate_pair_is_replaced_wherever_it_stands(text: str) -> None:
    (found,) = fed(answer(3, {text: text}))
    expected = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert found == (3, {expected: expected})


@pytest.mark.parametrize(
    ("raw", "number"),
    [
        *((b"7", 7), (b'"7"', 7), (b"7.0", 7), (b"-7", -7)),
        *((raw, None) for raw in (b"null", b"true", b"7.5", b'"x"', b"[7]", b"{}", b"9" * 5000, b"1e999")),
    ],
)
def test_the_number_that_is_answered(raw: bytes, number: int | None) -> None:
    assert fed(b'{"jsonrpc": "2.0", "id": %s, "result": 1}\n' % raw) == [(number, 1)]


@pytest.mark.parametrize(
    ("line", "number"),
    [
        (b'{"jsonrpc": "2.0", "id": 7, "result": ' + b"[" * 5000 + b"\n", 7),
        (b'{"result": tru, "jsonrpc": "2.0", "id": 7}\n', 7),
        (b'{"id": 7, "level": "info"}\n', None),
        (b'{"jsonrpc": "1.0", "id": 7, "result": 1}\n', None),
        (b'{"jsonrpc": "2.0", "id": 7, "method": "ping"\n', None),
    ],
)
def test_a_broken_answer_names_the_call_that_it_was_for(line: bytes, number: int | None) -> None:
    (found,) = fed(line)
    assert isinstance(found, Unreadable)
    assert found.number == number


def test_batches_marks_and_line_ends() -> None:
    batch = b"[" + answer(1).strip() + b", " + answer(2).strip() + b"]\r\n"
    assert fed(b"\xef\xbb\xbf" + answer(3), b"\r\n\n", batch) == [(3, 1), (1, 1), (2, 1)]


@pytest.mark.parametrize("head", [b'{"jsonrpc": "2.0", "id": 7, "result": "', b'{"result": "'])
def test_a_line_that_is_too_long_is_passed_over_and_not_kept(head: bytes) -> None:
    tail = b'"}\n' if b"id" in head else b'", "jsonrpc": "2.0", "id": 7}\n'
    piece = b"x" * 1_000_000
    assert fed(head, *[piece] * 10, tail + answer(8)) == [TooLong(7), (8, 1)]
    assert fed(head + b"x" * LINE_BYTES + tail + answer(8)) == [TooLong(7), (8, 1)]
    lines = Lines()
    found = [item for _ in range(MAX_SKIPPED_BYTES // len(piece) + 10) for item in lines.feed(piece)]
    assert found[0] == TooLong(None), "one without an end is given up"
    assert len(lines._begun) < 2 * LINE_BYTES


@pytest.mark.parametrize(
    ("result", "value"),
    [
        ({"content": []}, None),
        ({}, None),
        ({"content": [{"type": "text", "text": "one"}]}, "one"),
        ({"content": [{"type": "text", "text": "one"}, IMAGE]}, ["one", IMAGE]),
        ({"content": [IMAGE]}, IMAGE),
        (
            {"content": [{"type": "text", "text": "one", "annotations": {"priority": 1}}]},
            {"type": "text", "text": "one", "annotations": {"priority": 1}},
        ),
        ({"content": [], "structuredContent": {"a": 1}}, {"a": 1}),
        ({"content": [{"type": "text", "text": '{ "a": 1 }'}], "structuredContent": {"a": 1}}, {"a": 1}),
        ({"content": [{"type": "text", "text": "5"}], "structuredContent": {"result": 5}}, {"result": 5}),
        ({"content": [{"type": "text", "text": "x"}], "structuredContent": {"result": "x"}}, {"result": "x"}),
        (
            {"content": [{"type": "text", "text": t} for t in "ab"], "structuredContent": {"result": ["a", "b"]}},
            {"result": ["a", "b"]},
        ),
        (
            {"content": [{"type": "text", "text": "found 1"}], "structuredContent": {"a": 1}},
            {"structuredContent": {"a": 1}, "content": [{"type": "text", "text": "found 1"}]},
        ),
        (
            {"content": [IMAGE], "structuredContent": {}, "_meta": {"t": 1}},
            {"structuredContent": {}, "content": [IMAGE], "_meta": {"t": 1}},
        ),
        ({"content": [], "_meta": {"t": 1}}, {"_meta": {"t": 1}}),
        ({"content": [], "structuredContent": {"a": 1}, "_meta": {}, "isError": None}, {"a": 1}),
    ],
)
def test_the_normal_form(result: Any, value: Any) -> None:
    assert read_result(Raw(json.dumps(result).encode())) == value


@pytest.mark.parametrize(
    ("result", "message", "content"),
    [
        ({"content": [{"type": "text", "text": t} for t in "ab"]}, "a\nb", UNSET),
        ({"content": []}, "the tool failed without a message", UNSET),
        ({"content": [{"type": "text", "text": "a"}, IMAGE]}, "a", ["a", IMAGE]),
        ({"structuredContent": {"why": "full"}}, "the tool failed without a message", {"why": "full"}),
        ({"content": [{"type": "text", "text": "é" * 9000}]}, "é" * (MESSAGE_CHARACTERS - 1) + "…", "é" * 9000),
    ],
)
def test_all_of_an_error_is_there(result: Any, message: str, content: Any) -> None:
    with pytest.raises(ToolRefused) as caught:
        read_result(Raw(json.dumps({**result, "isError": True}).encode()))
    assert (str(caught.value), caught.value.content) == (message, content)


def test_an_error_of_the_protocol() -> None:
    code, refusal = read_error(Raw(b'{"code": -32000, "message": "full", "data": [1]}'))
    assert (code, str(refusal), refusal.content) == (
        -32000,
        "full",
        {"code": -32000, "message": "full", "data": [1]},
    )
    assert read_error(Raw(b'{"code": 1, "message": {"a": 1}}'))[1].args == ('{"a":1}',)


@given(
    JSON_VALUES
    | st.fixed_dictionaries({}, optional={"content": JSON_VALUES, "isError": JSON_VALUES, "_meta": JSON_VALUES})
)
def test_any_result_is_a_value_or_refused_or_none(result: Any) -> None:
    raw = Raw(json.dumps(result).encode())
    for reading in (read_result, read_error):
        try:
            msgspec.json.encode(reading(raw)) if reading is read_result else reading(raw)
        except ToolRefused as refusal:
            assert str(refusal)
        except ValueError as error:
            assert str(error)


@pytest.mark.parametrize(
    "value",
    [
        {"type": "image", "data": "A" * 100_000, "mimeType": "image/png"},
        ["text", {"type": "audio", "data": "A" * 100_000}],
        {"content": [{"type": "resource", "resource": {"uri": "a:b", "blob": "A" * 100_000}}], "_meta": {"a": 1}},
    ],
)
def test_images_are_not_counted_as_text(value: Any) -> None:
    meter = ContextMeter(100)
    meter.add(value)
    assert 0 < meter.tokens < 50
    with pytest.raises(Failure, match="E2003"):
        meter.add({"type": "text", "text": "A" * 100_000})


@pytest.mark.parametrize("compacted", [False, True])
def test_what_an_agent_leaves_out_by_itself_is_not_in_the_way(compacted: bool) -> None:
    meter = ContextMeter(100, compacted=compacted)
    meter.add("A" * 300)
    if compacted:
        meter.add("A" * 300)
        assert meter.tokens == 152
    with pytest.raises(Failure, match=f"E2003.*: {0 if compacted else 76} of 100"):
        meter.add("A" * 500)


@pytest.mark.parametrize(
    ("value", "is_read"),
    [
        (b"[" + b"[]," * 40_000 + b"[]]", True),
        (b"[" + b"[]," * 60_000 + b"[]]", False),
        (b"[" + b"1," * 450_000 + b"1]", True),
        (b"[" + b"1," * 550_000 + b"1]", False),
        (b'"' + b"[]," * 1_000_000 + b'"', True),
        (b"[" + b'"[,",' * 150_000 + b'""]', True),
    ],
    ids=["lists", "too many lists", "numbers", "too many numbers", "in a text", "in texts"],
)
def test_what_takes_long_to_build_is_refused(value: bytes, is_read: bool) -> None:
    (found,) = Lines().feed(b'{"jsonrpc": "2.0", "id": 1, "result": ' + value + b"}\n")
    assert isinstance(found, Message)
    if is_read:
        read(found.result, object)
    else:
        with pytest.raises(ValueError, match="it holds too much"):
            read(found.result, object)
