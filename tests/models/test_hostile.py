"""Whatever an endpoint sends: bounded in size and time, nobody else kept waiting, and E2100 if it is no answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from l02.domain.errors import ErrorCode
from l02.domain.inference import ModelOutcome, ModelUsage
from l02.handlers.models.settings import Defaults, ModelSettingsError, model_settings
from tests.models.conftest import Bridge
from tests.models.endpoint import Raw, ScriptedEndpoint
from tests.models.shapes import SHAPES, Call, Say

PIECE = 1 << 16
MIB = 1 << 20
EVENTS = "text/event-stream"
FAILED = ErrorCode.INFERENCE_FAILED


@contextlib.asynccontextmanager
async def nobody_waits(seconds: float = 0.1) -> AsyncIterator[None]:
    """The loop goes around at least so often, measured in processor time: others use this machine too."""
    longest = 0.0

    async def go_around() -> None:
        nonlocal longest
        while True:
            before = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - before)

    task = asyncio.create_task(go_around())
    yield
    task.cancel()
    assert longest < seconds, f"the loop was held for {longest:.3f} s"


async def many(unit: bytes, size: int, begin: bytes = b"", end: bytes = b"") -> AsyncIterator[bytes]:
    """So many bytes, in pieces."""
    piece = unit * max(PIECE // len(unit), 1)
    yield begin
    for _ in range(size // len(piece)):
        yield piece
        await asyncio.sleep(0)
    yield end


def chunk(**delta: Any) -> str:
    return f"data: {json.dumps({'choices': [{'delta': delta}]})}\n\n"


END = 'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
BODIES: dict[str, tuple[str, Any]] = {
    "nothing": ("application/json", b""),
    "html": ("text/html", b"<html><body>502 Bad Gateway"),
    "no type": ("", b"{}"),
    "half": ("application/json", b'{"choices": [{"message": {"content": "He'),
    "no object": ("application/json", b"[]"),
    "null": ("application/json", b"null"),
    "no choice": ("application/json", b'{"choices": []}'),
    "NaN": ("application/json", b'{"choices": [{"message": {"content": NaN}}]}'),
    "error": ("application/json", b'{"error": {"message": "out of memory"}}'),
    "UTF-16": ("application/json", '{"choices": []}'.encode("utf-16")),
    "surrogate": ("application/json", b'{"choices": [{"message": {"content": "\\ud800"}}]}'),
    "broken UTF-8": ("application/json", b'{"choices": [{"message": {"content": "\xff"}}]}'),
    "deep": ("application/json", b'{"choices": ' + b"[" * MIB),
    "deep elsewhere": ("application/json", b'{"choices": [{}], "x": ' + b"[" * 30_000 + b"]" * 30_000 + b"}"),
    "long number": ("application/json", b'{"choices": [{"index": ' + b"9" * MIB + b"}]}"),
    "50 MB": ("application/json", lambda: many(b"a", 50 * MIB, b'{"choices": [{"message": {"content": "', b'"}}]}')),
    "4 MB of objects": ("application/json", lambda: many(b"{},", 4 * MIB - PIECE, b'{"choices": [', b"{}]}")),
    "4 MB of calls": (
        "application/json",
        lambda: many(b"{},", 4 * MIB - PIECE, b'{"choices": [{"message": {"tool_calls": [', b"{}]}}]}"),
    ),
    "3 MB of text": (
        "application/json",
        lambda: many(b"a", 3 * MIB, b'{"choices": [{"message": {"content": "', b'"}}]}'),
    ),
    "stream of nothing": (EVENTS, b""),
    "stream without an end": (EVENTS, chunk(content="Hi").encode()),
    "stream of no JSON": (EVENTS, b"data: Hi\n\n"),
    "stream of half": (EVENTS, b'data: {"choices": [{"delta": {"conte\n\n'),
    "only its end": (EVENTS, b"data: [DONE]\n\n"),
    "error in a stream": (
        EVENTS,
        f'{chunk(content="Hi")}data: {{"error": {{"message": "out of memory"}}}}\n\n'.encode(),
    ),
    "endless line": (EVENTS, lambda: many(b"a", 50 * MIB, b"data: ")),
    "endless event": (EVENTS, lambda: many(b"data: a\n" * 9 + b"data: %b\n" % (b"a" * 999), 50 * MIB)),
    "50 MB of text": (EVENTS, lambda: many(chunk(content="a" * 10_000).encode(), 50 * MIB)),
    "20 MB of arguments": (
        EVENTS,
        lambda: many(chunk(tool_calls=[{"index": 0, "function": {"arguments": "a" * 9999}}]).encode(), 20 * MIB),
    ),
    "many calls": (EVENTS, "".join(chunk(tool_calls=[{"index": n, "id": "a"}]) for n in range(2000)).encode()),
    "values in an event": (EVENTS, b'data: {"choices": [' + b"{}," * 300_000 + b"{}]}\n\n"),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", BODIES)
async def test_what_is_no_answer(bridge: Bridge, endpoint: ScriptedEndpoint, name: str, stream: bool) -> None:
    content_type, body = BODIES[name]
    endpoint.script = lambda asked: Raw(body() if callable(body) else body, content_type=content_type)
    await bridge.have({"endpoint": endpoint.url, "model": "any"})
    async with nobody_waits():
        outcome = await bridge.ask(stream=stream)
    assert outcome.answer is None
    assert outcome.failure is not None
    assert outcome.failure.code is FAILED
    assert len(outcome.failure.message) < 10_000
    assert outcome.failure.message.isprintable()
    assert outcome.usage.estimated


@pytest.mark.parametrize(
    ("name", "content_type", "body", "text"),
    [
        ("chunks after the end", EVENTS, (chunk(content="Hi") + END + chunk(content=" there") * 9).encode(), "Hi"),
        ("nonsense after the end", EVENTS, (chunk(content="Hi") + END).encode() + b"data: {{{\n\n\xff", "Hi"),
        ("cut off behind the end", EVENTS, (chunk(content="Hi") + END).encode()[:-14], "Hi"),
        ("an endless end", EVENTS, lambda: many(b": a\n\n", 20 * MIB, (chunk(content="Hi") + END).encode()), "Hi"),
        (
            "8 MB of comments",
            EVENTS,
            lambda: many(b":\n" + b": %b\n" % (b"a" * 99), 8 * MIB, b"", (chunk(content="Hi") + END).encode()),
            "Hi",
        ),
        ("zero byte", EVENTS, (chunk(content="H\0i") + END).encode(), "H\0i"),
        ("line ends", EVENTS, (chunk(content="Hi") + END).replace("\n", "\r\n").encode(), "Hi"),
        ("unknown events", EVENTS, ("event: x\ndata: {}\n\n:\n\n" + chunk(content="Hi") + END).encode(), "Hi"),
        ("whole though asked for a stream", "application/json", b'{"choices": [{"message": {"content": "Hi"}}]}', "Hi"),
        ("parts", "application/json", b'{"choices":[{"message":{"content":[{"type":"text","text":"Hi"}]}}]}', "Hi"),
        (
            "deep where nobody looks",
            "application/json",
            b'{"choices": [{"message": {"content": "Hi"}}], "x": %b%b}' % (b"[" * 200, b"]" * 200),
            "Hi",
        ),
        ("whatever the type says", "", b'{"choices": [{"message": {"content": "Hi"}, "finish_reason": 7}]}', None),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value else "",
)
async def test_what_is_one_after_all(
    bridge: Bridge, endpoint: ScriptedEndpoint, name: str, content_type: str, body: Any, text: str | None
) -> None:
    endpoint.script = lambda asked: Raw(body() if callable(body) else body, content_type=content_type)
    await bridge.have({"endpoint": endpoint.url, "model": "any"})
    async with nobody_waits():
        outcome = await bridge.ask(stream=True)
    assert (outcome.answer.text if outcome.answer else None) == text


async def test_a_stream_that_nobody_asked_for(bridge: Bridge, endpoint: ScriptedEndpoint) -> None:
    endpoint.say(Raw((chunk(content="Hi") + END).encode(), content_type=EVENTS), Raw(chunk(content="Hi").encode()))
    await bridge.have({"endpoint": endpoint.url, "model": "any"})
    outcome = await bridge.ask()
    assert outcome.answer is not None
    assert (outcome.answer.text, bridge.heard) == ("Hi", [])
    outcome = await bridge.ask()
    assert outcome.failure is not None
    assert not outcome.failure.cut_off


@pytest.mark.parametrize(
    "usage",
    [
        b'{"prompt_tokens": NaN, "completion_tokens": 1}',
        b'{"prompt_tokens": 1000000000000000000000000000000, "completion_tokens": 1}',
        b'{"prompt_tokens": 1e30, "completion_tokens": 1}',
        b'{"prompt_tokens": 5, "completion_tokens": -1}',
        b'{"prompt_tokens": -5, "completion_tokens": 1}',
        b'{"prompt_tokens": "5", "completion_tokens": 1}',
        b'{"prompt_tokens": 0, "completion_tokens": 0}',
        b'{"prompt_tokens": 5, "completion_tokens": 0}',
        b'{"completion_tokens": 1}',
        b"[]",
        b"%b%b" % (b"[" * 200, b"]" * 200),
        b"7",
    ],
)
async def test_figures_that_cannot_be_are_none(bridge: Bridge, endpoint: ScriptedEndpoint, usage: bytes) -> None:
    body = b'{"choices": [{"message": {"content": "Hi"}}], "usage": %b}' % usage
    await bridge.have({"endpoint": endpoint.url, "model": "any"})
    for content_type, sent in (
        ("application/json", body),
        (
            EVENTS,
            b'data: {"choices":[{"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\ndata: '
            + body
            + b"\n\ndata: [DONE]\n\n",
        ),
    ):
        endpoint.say(Raw(sent, content_type=content_type))
        outcome = await bridge.ask(stream=True)
        if outcome.answer is None:
            assert b"NaN" in usage  # that is no JSON
        assert outcome.usage.estimated
        assert outcome.usage.output_tokens == 4096


async def test_figures_that_contradict_each_other(bridge: Bridge, endpoint: ScriptedEndpoint) -> None:
    await bridge.have({"endpoint": endpoint.url, "model": "any"})
    endpoint.say(Say("Hi", usage=(10, 5, 99, 99)))
    outcome = await bridge.ask()
    assert outcome.usage == ModelUsage(input_tokens=10, cached_tokens=10, output_tokens=5, reasoning_tokens=5)


async def test_tool_calls_however_they_are_numbered(bridge: Bridge, endpoint: ScriptedEndpoint) -> None:
    def calls(*each: dict[str, Any]) -> str:
        return "".join(chunk(tool_calls=[one]) for one in each)

    def begun(index: Any, name: str, **more: Any) -> dict[str, Any]:
        return {"index": index, "id": f"id-{name}", "function": {"name": name, "arguments": ""}} | more

    def more(index: Any, arguments: Any) -> dict[str, Any]:
        return {"index": index, "function": {"arguments": arguments}}

    scripts = [
        calls(begun(0, "a"), begun(7, "b"), more(0, "1"), more(7, "2")),  # the index jumps
        calls(begun(-3, "a"), more(-3, "1"), begun(2**60, "b"), more(2**60, "2")),
        calls(begun(None, "a"), more(None, "1"), begun(None, "b"), more(None, "2")),  # none at all
        calls(begun(0, "a") | more(0, "1"), begun(0, "b") | more(0, "2")),  # all alike
        calls(begun(0, "a") | more(0, 1), begun(1, "b") | more(1, 2)),  # no text
    ]
    await bridge.have({"endpoint": endpoint.url, "model": "any"})
    for script in scripts:
        script = (
            script.replace('{"arguments": "1"}}', '{"name": "a", "arguments": "1"}}')
            if script is scripts[3]
            else script
        )
        endpoint.say(Raw((script + END).encode(), content_type=EVENTS))
        answer = (await bridge.ask(stream=True)).answer
        assert answer is not None
        assert [(call.id, call.arguments) for call in answer.tool_calls] == [("id-a", "1"), ("id-b", "2")]


async def test_what_is_packed_is_not_unpacked(bridge: Bridge, endpoint: ScriptedEndpoint) -> None:
    endpoint.say(Raw(b"bomb", headers={"content-encoding": "gzip"}))
    await bridge.have({"endpoint": endpoint.url, "model": "any"})
    outcome = await bridge.ask()
    assert outcome.failure is not None
    assert "packed as 'gzip'" in outcome.failure.message
    assert endpoint.requests[0].headers["accept-encoding"] == "identity"


async def test_an_error_of_any_size(bridge: Bridge, endpoint: ScriptedEndpoint) -> None:
    endpoint.script = lambda asked: Raw(many(b"no\n", 50 * MIB), status=400, content_type="text/html; charset=punycode")
    await bridge.have({"endpoint": endpoint.url, "model": "any"})
    async with nobody_waits():
        outcome = await bridge.ask()
    assert outcome.failure is not None
    assert outcome.failure.message.startswith("any at 127.0.0.1")
    assert 8000 < len(outcome.failure.message) <= 8192


NAMES = (
    *("arguments", "cached_tokens", "call_id", "choices", "code", "completion_tokens", "content", "content_block"),
    *(
        "delta",
        "error",
        "finish_reason",
        "function",
        "id",
        "index",
        "input",
        "input_tokens",
        "item",
        "message",
        "model",
    ),
    *("name", "output", "output_index", "output_tokens", "partial_json", "prompt_tokens", "prompt_tokens_details"),
    *("reasoning_content", "refusal", "response", "status", "stop_reason", "text", "tool_calls", "type", "usage"),
)
KINDS = (
    *("text", "tool_use", "message", "function_call", "output_text", "completed", "incomplete", "failed", "stop"),
    *("length", "tool_calls", "message_start", "content_block_start", "content_block_delta", "text_delta", "error"),
    *("input_json_delta", "message_delta", "message_stop", "response.created", "response.output_text.delta"),
    *("response.output_item.added", "response.output_item.done", "response.function_call_arguments.delta"),
    *("response.completed", "response.failed"),
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.sampled_from([10**30, -(10**30), 1e308, 2**63, 0.5])
    | st.text(max_size=5)
    | st.sampled_from(KINDS)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=15,
)


def _sane(say: Say, api: str, asked: dict[str, Any]) -> Iterator[bytes]:
    return SHAPES[api].events(say, asked)


@st.composite
def streams(draw: st.DrawFn, api: str) -> bytes:
    """The events of an answer, with some left out, doubled, cut, or others among them."""
    say = Say("a b", [Call("f", '{"a": 1}')])
    events = list(_sane(say, api, {"stream_options": {"include_usage": True}}))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(events)))
        change = draw(st.sampled_from(["drop", "double", "cut", "other", "bytes"]))
        if change == "other":
            events.insert(at, b"data: " + json.dumps(draw(VALUES)).encode() + b"\n\n")
        elif change == "bytes":
            events.insert(at, draw(st.binary(max_size=20)))
        elif at < len(events):
            if change == "cut":
                events[at] = events[at][: draw(st.integers(0, len(events[at])))]
            elif change == "drop":
                del events[at]
            else:
                events.insert(at, events[at])
    return b"".join(events)


def judge(outcome: ModelOutcome) -> None:
    """It can be recorded, whatever it is, and is either of both."""
    assert (outcome.answer is None) is (outcome.failure is not None)
    assert msgspec.json.decode(msgspec.json.encode(outcome), type=ModelOutcome) == outcome
    if outcome.failure is not None:
        assert outcome.failure.message.isprintable()


@pytest.mark.parametrize("api", ["chat", "responses", "anthropic"])
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
async def test_any_bytes(bridge: Bridge, endpoint: ScriptedEndpoint, api: str, data: st.DataObject) -> None:
    raw = data.draw(streams(api) | VALUES.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=50))
    status = data.draw(st.sampled_from([200, 200, 200, 400, 500]))
    content_type = data.draw(st.sampled_from([EVENTS, EVENTS, "application/json", "text/html"]))
    endpoint.say(Raw(raw, status=status, content_type=content_type))
    patient = Defaults(max_retries=0, breaker_failures=1000)
    await bridge.have({"endpoint": endpoint.url, "model": "any", "api": api}, defaults=patient)
    outcome = await bridge.ask(stream=data.draw(st.booleans()), output_schema=data.draw(st.none() | st.just({})))
    judge(outcome)


URLS = st.builds(
    "{}://{}{}{}".format,
    st.sampled_from(["http", "https"]),
    st.text("ab.-_[]:é%0", min_size=1, max_size=8) | st.sampled_from(["127.0.0.1", "[::1]", "a" * 64, "a" * 300]),
    st.sampled_from(["", ":1", ":99999", ":x"]),
    st.text("/ab%é ", max_size=5).map("/{}".format),
)


@settings(max_examples=100, deadline=None)
@given(url=URLS, proxy=st.none() | URLS)
def test_any_address(url: str, proxy: str | None) -> None:
    """One that the settings take can be asked."""
    section = {"m": [{"endpoint": url, "model": "any", "proxy": proxy}]}
    try:
        [(endpoint, _)] = model_settings(section, Defaults(), Path.cwd()).models["m"].endpoints
    except ModelSettingsError:
        return
    assert httpx2.URL(f"{endpoint.url}/x").host
    httpx2.AsyncHTTPTransport(verify=False, trust_env=False, proxy=proxy)
