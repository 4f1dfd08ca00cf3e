"""What is reserved before a call is never less than what it comes to."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l02.domain.errors import ErrorCode, Failure
from l02.domain.inference import KnownInput, ModelRequest, ModelUsage, Price, Spending, input_bytes
from l02.handlers.models.conversation import check
from l02.handlers.models.prices import Pricing, pricing_of
from l02.handlers.models.quote import worst
from l02.handlers.models.settings import Endpoint, Timeouts
from tests.models.conftest import Bridge

AROUND, ABOUT_TOOLS, IMAGE = 256, 1024, 50_000
TIMES = Timeouts(connect=1, first_token=1, between_tokens=1, whole=1)


def entry(**more: Any) -> Endpoint:
    named: dict[str, Any] = {"endpoint": "http://a/v1", "model": "m", "max_output": 100, "max_concurrent": 1}
    return Endpoint(**(named | {"timeouts": TIMES, "max_retries": 3} | more))


def said(*texts: Any, **more: Any) -> ModelRequest:
    return ModelRequest(messages=tuple({"role": "user", "content": text} for text in texts), **more)


def bound(request: ModelRequest, known: KnownInput | None = None, **more: Any) -> ModelUsage:
    return worst(entry(**more), Pricing(), check(request), known).usage


def size(request: ModelRequest) -> int:
    return input_bytes(request) + len(b"[null,{}]")


def test_a_token_a_byte() -> None:
    request = said("Grüße", max_tokens=7)
    assert bound(request) == ModelUsage(input_tokens=size(request) + AROUND, output_tokens=7, estimated=True)
    assert bound(said("Hi")).output_tokens == 100
    tools = ({"type": "function", "function": {"name": "f"}},)
    request = said("Hi", tools=tools, output_schema={"type": "object"})
    assert bound(request).input_tokens == size(request) + AROUND + ABOUT_TOOLS


def test_the_known_beginning() -> None:
    before, now = said("a" * 1000), said("a" * 1000, "b" * 100)
    known = KnownInput(bytes=input_bytes(before), tokens=300, model="m")
    assert bound(now, known).input_tokens == 300 + size(now) - input_bytes(before)
    # Another model counts otherwise; and of what is shorter nothing is known.
    assert bound(now, KnownInput(bytes=1000, tokens=1, model="other")) == bound(now)
    assert bound(said("Hi"), known) == bound(said("Hi"))


def test_images_and_files() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    file = {"type": "file", "file": {"file_id": "f1"}}
    text = {"type": "text", "text": "Look"}
    assert IMAGE < bound(said([text, image])).input_tokens < IMAGE + 1000
    assert 2 * IMAGE < bound(said([image], [image])).input_tokens < 2 * IMAGE + 1000
    assert bound(said([file])).input_tokens > 128_000
    assert bound(said([file]), context_window=1_000_000).input_tokens == 1_000_000
    before, now = said([text, image]), said([text, image], [image])
    known = KnownInput(bytes=input_bytes(before), tokens=900, model="m")
    assert 900 + IMAGE < bound(now, known).input_tokens < 900 + IMAGE + 1000


def test_the_context_window() -> None:
    long = check(said("a" * 50_000))
    assert bound(said("a" * 50_000), context_window=8000).input_tokens == 8000
    assert worst(entry(context_window=8000), Pricing(), long, None).fits  # perhaps
    assert not worst(entry(context_window=3000), Pricing(), long, None).fits
    known = KnownInput(bytes=input_bytes(said("a" * 50_000)), tokens=7950)
    assert not worst(entry(context_window=8000), Pricing(), long, known).fits


@pytest.mark.parametrize("stream", [False, True])
async def test_only_where_it_fits(bridge: Bridge, stream: bool) -> None:
    there: dict[str, Any] = {"endpoint": "http://127.0.0.1:1/v1", "max_retries": 0}
    await bridge.have({**there, "model": "a", "context_window": 1000}, {**there, "model": "b", "context_window": 9000})
    request = said("a" * 100_000, max_tokens=10, stream=stream)
    outcome = await bridge.call("m", request, agent_id="a1")
    assert [attempt.model for attempt in outcome.attempts] == ["b"]
    huge = said("a" * 1_000_000, max_tokens=10, stream=stream)
    with pytest.raises(Failure, match="do not fit the 9000 tokens that m can hold") as failure:
        bridge.quote("m", huge)
    assert failure.value.code is ErrorCode.CONTEXT_OVERFLOW
    outcome = await bridge.call("m", huge, agent_id="a1")
    assert outcome.failure is not None
    assert outcome.failure.code is ErrorCode.CONTEXT_OVERFLOW


async def test_the_dearest_endpoint_counts(bridge: Bridge) -> None:
    there: dict[str, Any] = {"endpoint": "http://a/v1"}
    cheap = {**there, "model": "cheap", "price": {"input": 1, "output": 2}, "max_output": 1000}
    dear = {**there, "model": "dear", "price": {"input": 3, "output": 9}, "max_output": 10}
    request = said("Hi")
    read = size(request) + AROUND
    await bridge.have(cheap)
    assert bridge.quote("m", request) == Spending(tokens=read + 1000, cost=read + 2000)
    await bridge.have(cheap, dear, cheap)
    assert bridge.quote("m", request) == Spending(tokens=read + 1000, cost=max(read + 2000, 3 * read + 90))
    # What is written into a cache may cost more than other input.
    await bridge.have({**there, "model": "m", "api": "anthropic", "max_output": 1, "price": {"input": 4}})
    assert bridge.quote("m", request).cost == 5 * read
    await bridge.have({**there, "model": "no price"})
    assert bridge.quote("m", request).cost == 0


@given(
    st.builds(
        Price,
        input=st.floats(0, 1e6),
        cached_input=st.none() | st.floats(0, 1e6),
        cache_write=st.none() | st.floats(0, 1e6),
        output=st.floats(0, 1e6),
    ),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.integers(0, 100),
)
@settings(max_examples=100)
def test_whatever_the_provider_counts(price: Price, fresh: int, cached: int, written: int, output: int) -> None:
    """As long as it counts no more tokens than the bound."""
    usage = ModelUsage(
        input_tokens=fresh + cached + written, cached_tokens=cached, cache_write_tokens=written, output_tokens=output
    )
    asked = check(said("Hi"))
    known = KnownInput(bytes=asked.bytes, tokens=usage.input_tokens)
    assert worst(entry(), Pricing(price), asked, known).cost >= price.cost(usage)


@pytest.mark.parametrize(
    "price",
    [Price(input=0.1, cached_input=9.0, output=1), Price(input=1, cached_input=2.0, cache_write=1.5, output=1)],
)
def test_a_cache_that_costs_more(price: Price) -> None:
    asked = check(said("a" * 1000))
    usage = ModelUsage(input_tokens=1000, cached_tokens=1000, output_tokens=100)
    assert worst(entry(), Pricing(price), asked, None).cost >= price.cost(usage)


def test_prices_that_are_known_elsewhere() -> None:
    def price(url: str, model: str, tokens: int) -> Price | None:
        return pricing_of(entry(endpoint=url, model=model)).of(tokens)

    small = price("https://api.openai.com/v1", "gpt-4o-mini", 1000)
    assert small == Price(input=0.15, cached_input=0.075, output=0.6)
    below, above = (price("https://api.anthropic.com/v1", "claude-sonnet-4-5", n) for n in (200_000, 200_001))
    assert below is not None and above is not None
    assert (below.input, above.input) == (3.0, 6.0)
    assert below.cache_write == 3.75
    # Another address may have another price: nobody knows.
    assert price("http://127.0.0.1:11434/v1", "gpt-4o-mini", 1000) is None
    assert price("https://api.openai.com/v1", "no-such-model", 1000) is None
    own = Price(input=1.0)
    assert pricing_of(entry(endpoint="https://api.openai.com/v1", model="gpt-4o-mini", price=own)).of(1) == own


def test_money_is_rounded_up() -> None:
    assert Price(input=0.15).cost(ModelUsage(input_tokens=1)) == 1
    assert Price(input=0.15).cost(ModelUsage(input_tokens=20)) == 3
    assert math.isclose(Price(output=600).cost(ModelUsage(output_tokens=10**6)), 600 * 10**6)


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        (ModelRequest(messages=()), "$.messages"),
        (ModelRequest(messages=({"content": "Hi"},)), "$.messages[0]"),
        (ModelRequest(messages=({"role": "robot", "content": "Hi"},)), "$.messages[0].role"),
        (said(7), "$.messages[0].content"),
        (said(["Hi"]), "$.messages[0].content[0]"),
        (said("Hi", tools=({"type": "web_search"},)), "$.tools[0].type"),
        (said("Hi", tools=({"type": "function"},)), "$.tools[0]"),
        (said("Hi", parameters={"n": 2}), "$.parameters.n"),
        (said("Hi", parameters={"max_tokens": 9}), "$.parameters.max_tokens"),
        (said("Hi", parameters={"service_tier": "priority"}), "$.parameters.service_tier"),
        (said("Hi", parameters={"model": "dearer"}), "$.parameters.model"),
        (said("Hi", max_tokens=10**30), "$.max_tokens"),
        (said("\ud800"), "$.messages"),
        (said("Hi", parameters={"x": object()}), "$.messages"),
    ],
)
async def test_what_is_no_request(bridge: Bridge, request_: ModelRequest, path: str) -> None:
    await bridge.have({"endpoint": "http://a/v1", "model": "m"})
    with pytest.raises(Failure) as failure:
        bridge.quote("m", request_)
    assert (failure.value.code, failure.value.path) == (ErrorCode.COMMAND_INVALID, path)
    outcome = await bridge.call("m", request_, agent_id="a1")
    assert outcome.failure is not None
    assert outcome.failure.code is ErrorCode.COMMAND_INVALID


async def test_what_changes_nothing_may_be_given(bridge: Bridge) -> None:
    await bridge.have({"endpoint": "http://a/v1", "model": "m"})
    bridge.quote("m", said("Hi", parameters={"n": 1, "stream": False, "top_p": 0.5, "store": None}))
