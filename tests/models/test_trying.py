"""What is tried again, and where, and what is not; what each way to fail is called, and what it is charged with."""

from __future__ import annotations

import asyncio
import json
import math
import time
from email.utils import formatdate
from typing import Any

import pytest

from l02.domain.errors import ErrorCode, Failure
from l02.domain.inference import ModelOutcome, ModelRequest
from l02.handlers.models.endpoints.breaker import BreakerState
from l02.handlers.models.settings import Defaults
from tests.models.conftest import Bridge
from tests.models.endpoint import Answer, Drop, Hang, Raw, Refuse, ScriptedEndpoint
from tests.models.shapes import Say

PRICE = {"input": 1, "output": 1}


def to(endpoint: ScriptedEndpoint, **more: Any) -> dict[str, Any]:
    return {"endpoint": endpoint.url, "model": "any", "price": PRICE, **more}


def codes(outcome: ModelOutcome) -> list[str | None]:
    return [attempt.code for attempt in outcome.attempts]


@pytest.fixture
def nobody() -> dict[str, Any]:
    """Where nobody listens."""
    return {"endpoint": "http://127.0.0.1:1/v1", "model": "any", "price": PRICE}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529, 599])
async def test_what_may_pass_is_tried_again(
    bridge: Bridge, endpoint: ScriptedEndpoint, status: int, stream: bool
) -> None:
    endpoint.say(Refuse(status), Refuse(status), Say("Hello"))
    await bridge.have(to(endpoint))
    outcome = await bridge.ask(stream=stream)
    assert outcome.answer is not None
    assert outcome.answer.text == "Hello"
    assert len(endpoint.requests) == 3
    assert [attempt.usage.tokens for attempt in outcome.attempts] == [0, 0, 15]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, ErrorCode.INFERENCE_FAILED),
        (401, ErrorCode.INFERENCE_FAILED),
        (402, ErrorCode.INFERENCE_FAILED),
        (403, ErrorCode.INFERENCE_FAILED),
        (404, ErrorCode.MODEL_UNAVAILABLE),
        (413, ErrorCode.INFERENCE_FAILED),
        (422, ErrorCode.INFERENCE_FAILED),
        (307, ErrorCode.INFERENCE_FAILED),
    ],
)
async def test_what_is_refused_is_not(bridge: Bridge, endpoint: ScriptedEndpoint, status: int, code: ErrorCode) -> None:
    endpoint.say(Refuse(status, "no, since", {"location": endpoint.url}), Say("Hello"))
    await bridge.have(to(endpoint))
    outcome = await bridge.ask()
    assert outcome.failure is not None
    assert outcome.failure.code is code
    assert f"any at {outcome.attempts[0].endpoint}: HTTP {status}: no, since" in outcome.failure.message
    assert len(endpoint.requests) == 1
    assert outcome.cost == 0


@pytest.mark.parametrize(
    "said",
    [
        {"error": {"message": "Your input exceeds the context window", "code": "context_length_exceeded"}},
        {"object": "error", "message": "This model's maximum context length is 4096 tokens.", "code": 400},
        {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 9 > 8 maximum"}},
        {"error": {"code": 400, "message": "too large", "type": "exceed_context_size_error"}},
        [{"error": {"message": "The input token count (9) exceeds the maximum number of tokens allowed (8)."}}],
    ],
)
async def test_a_request_that_is_too_long(bridge: Bridge, endpoint: ScriptedEndpoint, said: object) -> None:
    endpoint.say(Raw(json.dumps(said).encode(), status=400))
    await bridge.have(to(endpoint))
    outcome = await bridge.ask()
    assert outcome.failure is not None
    assert outcome.failure.code is ErrorCode.CONTEXT_OVERFLOW
    assert outcome.cost == 0


@pytest.mark.parametrize(
    ("answer", "code", "tries"),
    [
        (Refuse(429), ErrorCode.RATE_LIMITED, 4),
        (Refuse(500), ErrorCode.INFERENCE_FAILED, 4),
        (Refuse(503), ErrorCode.MODEL_UNAVAILABLE, 4),
        (Drop(), ErrorCode.MODEL_UNAVAILABLE, 4),
        (Hang(), ErrorCode.INFERENCE_TIMEOUT, 4),
        (Raw(b"<html>"), ErrorCode.INFERENCE_FAILED, 1),
    ],
    ids=lambda value: value.value if isinstance(value, ErrorCode) else "",
)
async def test_it_is_given_up(
    bridge: Bridge, endpoint: ScriptedEndpoint, answer: Answer, code: ErrorCode, tries: int
) -> None:
    endpoint.say(answer)
    await bridge.have(to(endpoint, timeouts={"first_token": 0.05} if isinstance(answer, Hang) else {}))
    outcome = await bridge.ask(stream=True)
    assert outcome.failure is not None
    assert (outcome.failure.code, outcome.failure.cut_off) == (code, False)
    assert len(endpoint.requests) == len(outcome.attempts) == tries


async def test_what_may_be_charged_for_is_no_more_than_what_was_quoted(
    bridge: Bridge, endpoint: ScriptedEndpoint, second: ScriptedEndpoint
) -> None:
    """Attempts without an answer, of which nobody knows what the provider makes of them."""
    request = ModelRequest(messages=({"role": "user", "content": "Hi"},), stream=True)
    cases: tuple[list[Answer], ...] = (
        [Hang(), Hang()],
        [Drop(), Drop()],
        [Hang(), Drop()],
        [Refuse(503), Drop()],
        [Drop(), Raw(b"x")],
    )
    for scripts in cases:
        for server, answer in zip((endpoint, second), scripts, strict=True):
            server.say(answer)
        for entries in ([to(endpoint)], [to(endpoint), to(second, max_output=9)], [to(second), to(endpoint)]):
            patience = {"first_token": 0.02} if any(isinstance(answer, Hang) for answer in scripts) else {}
            short = [entry | {"timeouts": patience} for entry in entries]
            await bridge.have(*short, defaults=Defaults(breaker_failures=1000))
            outcomes, quoted = [each async for each in bridge.passes(stream=True)], bridge.quote("m", request)
            for outcome in outcomes:
                assert outcome.failure is not None
                assert outcome.usage.tokens <= quoted.tokens
                assert outcome.cost <= quoted.cost
            asked_in_vain = any(not isinstance(answer, Refuse) for answer in scripts[: len(entries)])
            assert any(outcome.usage.estimated for outcome in outcomes) is asked_in_vain


@pytest.mark.parametrize("as_date", [False, True])
async def test_it_waits_as_long_as_it_is_told(bridge: Bridge, endpoint: ScriptedEndpoint, as_date: bool) -> None:
    then = math.ceil(time.time()) if as_date else time.time() + 0.3
    after = formatdate(then, usegmt=True) if as_date else "0.3"
    endpoint.say(Refuse(429, headers={"retry-after": after}), Say("Hello"))
    await bridge.have(to(endpoint))
    assert (await bridge.ask()).answer is not None
    assert time.time() >= then


@pytest.mark.parametrize("told", ["100000", "Fri, 31 Dec 9999 23:59:59 GMT"])
async def test_it_does_not_wait_longer_than_it_has(bridge: Bridge, endpoint: ScriptedEndpoint, told: str) -> None:
    endpoint.say(Refuse(429, headers={"retry-after": told}))
    await bridge.have(to(endpoint))
    outcome = await bridge.ask()
    assert codes(outcome) == ["E2103"]


@pytest.mark.parametrize("told", ["", "soon", "-1", "1e400", "٣", "Fri, 99 Zzz 0 0:0:0", "nan", "1" * 400])
async def test_nonsense_about_waiting_is_passed_over(bridge: Bridge, endpoint: ScriptedEndpoint, told: str) -> None:
    endpoint.say(Refuse(429, headers={"retry-after": told.encode().decode("latin-1")}), Say("Hello"))
    await bridge.have(to(endpoint))
    outcome = await bridge.ask()
    assert outcome.answer is not None or told.startswith("111")


async def test_the_next_one_answers(
    bridge: Bridge, endpoint: ScriptedEndpoint, second: ScriptedEndpoint, nobody: dict[str, Any]
) -> None:
    second.say(Say("Hello", model="other"))
    await bridge.have(nobody, to(endpoint, max_retries=0), to(second))
    for answer in (Refuse(503), Refuse(401), Refuse(404), Refuse(429), Raw(b"no", content_type="text/html"), Drop()):
        endpoint.say(answer)
        outcome = await bridge.ask(stream=True)
        assert outcome.answer is not None
        assert outcome.answer.model == "other"
        assert outcome.attempts[-1].endpoint in second.url
    endpoint.say(Refuse(400, "no"))
    before = len(second.requests)
    outcome = await bridge.ask(stream=True)
    assert outcome.failure is not None
    assert "HTTP 400: no" in outcome.failure.message
    endpoint.say(Say("I will not", finish="content_filter"))
    assert (await bridge.ask()).answer is not None
    assert len(second.requests) == before


async def test_all_down(bridge: Bridge, nobody: dict[str, Any], endpoint: ScriptedEndpoint) -> None:
    endpoint.say(Refuse(503, "overloaded"))
    await bridge.have(nobody, to(endpoint, max_retries=0))
    outcome = await bridge.ask()
    assert outcome.failure is not None
    assert outcome.failure.code is ErrorCode.MODEL_UNAVAILABLE
    assert "127.0.0.1:1: it cannot be reached" in outcome.failure.message
    assert "HTTP 503: overloaded" in outcome.failure.message
    assert outcome.cost == 0


@pytest.mark.parametrize("api", ["chat", "responses", "anthropic"])
async def test_a_stream_that_breaks_ends_the_pass(
    bridge: Bridge, endpoint: ScriptedEndpoint, second: ScriptedEndpoint, api: str
) -> None:
    await bridge.have(to(endpoint, api=api, timeouts={"between_tokens": 0.3}), to(second, api=api))
    for answer in (Say("a b c d e f g h", break_after=9), Say("a b c d e f g h", hang_after=9)):
        bridge.heard.clear()
        endpoint.say(answer)
        outcome = await bridge.ask(stream=True, max_tokens=1000)
        assert outcome.failure is not None
        assert outcome.failure.cut_off
        assert outcome.failure.code in (ErrorCode.INFERENCE_FAILED, ErrorCode.INFERENCE_TIMEOUT)
        assert "".join(bridge.heard).startswith("a b c")
        assert not second.requests
        # What it has written is not known; Anthropic says at once what it has read.
        [attempt] = outcome.attempts
        assert attempt.usage.estimated
        assert attempt.usage.output_tokens == 1000
        assert (attempt.usage.input_tokens == 10) is (api == "anthropic")


async def test_the_whole_has_its_time(bridge: Bridge, endpoint: ScriptedEndpoint) -> None:
    endpoint.say(Hang())
    await bridge.have(to(endpoint, timeouts={"whole": 0.1}))
    for stream in (False, True):
        outcome = await bridge.ask(stream=stream)
        assert outcome.failure is not None
        assert outcome.failure.code is ErrorCode.INFERENCE_TIMEOUT
        assert codes(outcome) == ["E2102"]
    endpoint.say(Say("a b c", hang_after=3))
    await bridge.have(to(endpoint, timeouts={"whole": 0.7}))
    outcome = await bridge.ask(stream=True)
    assert outcome.failure is not None
    assert (outcome.failure.code, outcome.failure.cut_off) == (ErrorCode.INFERENCE_TIMEOUT, True)


@pytest.mark.parametrize("stream", [False, True])
async def test_cancelling_closes_the_connection(bridge: Bridge, endpoint: ScriptedEndpoint, stream: bool) -> None:
    endpoint.say(Say("a b c", hang_after=3) if stream else Hang())
    await bridge.have(to(endpoint, max_concurrent=1))
    heard = asyncio.Event()

    async def hear(piece: str) -> None:
        heard.set()

    request = ModelRequest(messages=({"role": "user", "content": "Hi"},), stream=stream)
    task = asyncio.create_task(bridge.call("m", request, agent_id="a1", on_text=hear))
    asked = await endpoint.asked()
    if stream:
        await heard.wait()
    task.cancel()
    await asyncio.wait_for(asked.gone.wait(), 5)
    with pytest.raises(asyncio.CancelledError):
        await task
    endpoint.say(Say("Hello"))
    assert (await bridge.ask()).answer is not None  # its turn was given back


async def test_a_reader_who_is_slow_is_waited_for(bridge: Bridge, endpoint: ScriptedEndpoint) -> None:
    endpoint.say(Say("a b c"))
    await bridge.have(to(endpoint, timeouts={"between_tokens": 0.3}))
    heard: list[str] = []

    async def hear(piece: str) -> None:
        if not heard:
            await asyncio.sleep(0.4)
        heard.append(piece)

    request = ModelRequest(messages=({"role": "user", "content": "Hi"},), stream=True)
    outcome = await bridge.call("m", request, agent_id="a1", on_text=hear)
    assert outcome.answer is not None
    assert heard == ["a", " b", " c"]


async def test_the_breaker(bridge: Bridge, endpoint: ScriptedEndpoint, nobody: dict[str, Any]) -> None:
    name = endpoint.url.split("/")[2]
    endpoint.say(Refuse(500))
    few = Defaults(breaker_failures=2, breaker_seconds=60, max_retries=0)
    await bridge.have(to(endpoint), defaults=few)
    await bridge.ask()
    assert bridge.breakers() == {name: BreakerState.CLOSED}
    await bridge.ask()
    assert bridge.breakers() == {name: BreakerState.OPEN}
    outcome = await bridge.ask()
    assert outcome.failure is not None
    assert outcome.failure.code is ErrorCode.MODEL_UNAVAILABLE
    assert "it has failed 2 times in a row" in outcome.failure.message
    assert (len(endpoint.requests), outcome.attempts) == (2, ())
    # New settings, and other aliases, know the same breaker.
    again = Defaults(breaker_failures=2, breaker_seconds=0.001, max_retries=0)
    await bridge.have(to(endpoint), {**nobody, "model": "unused"}, defaults=again)
    assert bridge.breakers()[name] is BreakerState.OPEN
    gate = asyncio.Event()

    async def later(asked: object) -> Answer:
        await gate.wait()
        return Say("Hello")

    endpoint.script = later
    await asyncio.sleep(0.002)
    trying = asyncio.create_task(bridge.ask())
    await endpoint.asked(3)
    assert bridge.breakers()[name] is BreakerState.HALF_OPEN
    assert (await bridge.ask()).answer is None  # one at a time finds out
    gate.set()
    assert (await trying).answer is not None
    assert bridge.breakers()[name] is BreakerState.CLOSED


async def test_half_open_and_cancelled(bridge: Bridge, endpoint: ScriptedEndpoint) -> None:
    endpoint.say(Refuse(500), Hang(), Say("Hello"))
    await bridge.have(to(endpoint), defaults=Defaults(breaker_failures=1, breaker_seconds=0.001, max_retries=0))
    await bridge.ask()
    await asyncio.sleep(0.002)
    trying = asyncio.create_task(bridge.ask())
    await endpoint.asked(2)
    trying.cancel()
    await asyncio.wait({trying})
    assert (await bridge.ask()).answer is not None


async def test_who_is_no_model(bridge: Bridge, endpoint: ScriptedEndpoint) -> None:
    await bridge.have(to(endpoint))
    request = ModelRequest(messages=({"role": "user", "content": "Hi"},))
    with pytest.raises(Failure, match=r"E2101 .* no model 'big' \(its models: m\)"):
        bridge.quote("big", request)
    outcome = await bridge.call("big", request, agent_id="a1")
    assert outcome.failure is not None
    assert outcome.failure.code is ErrorCode.MODEL_UNAVAILABLE


async def test_new_settings_end_no_call(bridge: Bridge, endpoint: ScriptedEndpoint, second: ScriptedEndpoint) -> None:
    gate = asyncio.Event()

    async def later(asked: object) -> Answer:
        await gate.wait()
        return Say("old")

    endpoint.script = later
    second.say(Say("new"))
    await bridge.have(to(endpoint))
    old = asyncio.create_task(bridge.ask())
    await endpoint.asked()
    await bridge.have(to(second))
    new = (await bridge.ask()).answer
    gate.set()
    answer = (await old).answer
    assert new is not None and answer is not None
    assert (answer.text, new.text) == ("old", "new")


async def test_a_proxy_is_one_of_the_settings(
    bridge: Bridge, endpoint: ScriptedEndpoint, second: ScriptedEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    await bridge.have(to(endpoint))
    assert (await bridge.ask()).answer is not None
    await bridge.have(to(endpoint, proxy=second.url.removesuffix("/v1")))
    assert (await bridge.ask()).answer is not None
    assert [asked.path for asked in second.requests] == [f"{endpoint.url}/chat/completions"]


async def test_no_cookie_is_kept(bridge: Bridge, endpoint: ScriptedEndpoint) -> None:
    endpoint.say(Say("Hello", headers={"set-cookie": "a=b"}))
    await bridge.have(to(endpoint))
    for _ in range(2):
        await bridge.ask()
    assert "cookie" not in endpoint.requests[1].headers


async def test_connections_that_are_broken_are_not_used_again(bridge: Bridge, endpoint: ScriptedEndpoint) -> None:
    endpoint.say(Say("a b c", break_after=3), Raw(b"{}"), Say("Hello"), Say("Hello"))
    await bridge.have(to(endpoint))
    for answered in (False, False, True, True):
        assert (await bridge.ask(stream=True)).attempts[-1].code is (None if answered else "E2100")
    assert endpoint.connections == 3
