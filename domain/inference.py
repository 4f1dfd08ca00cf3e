"""What is asked of a model and what it answers, in one shape for all kinds of endpoints; what that uses and costs.

A request is shaped as the chat completions that most endpoints understand: who speaks to another kind translates.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from msgspec import Meta, Struct, json

from l02.domain.errors import ErrorCode

MAX_COUNT = 1_000_000_000_000_000
UsdForAMillion = Annotated[float, Meta(ge=0, le=1_000_000)]
Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]


class FinishReason(StrEnum):
    """Why an answer ended."""

    STOP = "stop"
    TOOL_CALLS = "tool_calls"
    LENGTH = "length"
    CONTENT_FILTER = "content_filter"


class ModelRequest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a model is asked.

    `messages` are those of chat completions: `{role, content, tool_calls?, tool_call_id?}`, where content is a text or
    a list of parts. `tools` are `{type: function, function: {name, description?, parameters}}`. `output_schema` is the
    JSON Schema that the answer must have. `parameters` are further ones, given to the endpoint as they are.
    """

    messages: tuple[dict[str, Any], ...]
    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: Any = None
    output_schema: dict[str, Any] | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: float | None = None
    stream: bool = False
    parameters: dict[str, Any] = {}


class ModelUsage(Struct, frozen=True, kw_only=True):
    """Tokens of a call, all its attempts together. `reasoning` are part of `output`.

    `cached` (read from the provider's cache) and `cache_write` (written to it, where that has a price of its own) are
    part of `input`. `estimated` if the provider did not say, so that what was reserved is charged.
    """

    input_tokens: Count = 0
    cached_tokens: Count = 0
    cache_write_tokens: Count = 0
    output_tokens: Count = 0
    reasoning_tokens: Count = 0
    estimated: bool = False

    @property
    def tokens(self) -> int:
        """All of them."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: ModelUsage) -> ModelUsage:
        return ModelUsage(
            input_tokens=self.input_tokens + other.input_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            estimated=self.estimated or other.estimated,
        )


class Price(Struct, frozen=True, kw_only=True):
    """USD for a million tokens; those read from or written to a cache cost what others do if nothing is said."""

    input: UsdForAMillion = 0.0
    cached_input: UsdForAMillion | None = None
    cache_write: UsdForAMillion | None = None
    output: UsdForAMillion = 0.0

    def cost(self, usage: ModelUsage) -> int:
        """What it costs, in millionths of a dollar, rounded up."""
        cached = self.input if self.cached_input is None else self.cached_input
        written = self.input if self.cache_write is None else self.cache_write
        millionths = (
            (usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens) * self.input
            + usage.cached_tokens * cached
            + usage.cache_write_tokens * written
            + usage.output_tokens * self.output
        )
        return -int(-millionths // 1)


class Spending(Struct, frozen=True, kw_only=True):
    """An amount of tokens and of money, reserved or spent. `cost` is in millionths of a dollar.

    Sums end at the largest amount that there is, and differences at nothing.
    """

    tokens: Count = 0
    cost: Count = 0

    def __add__(self, other: Spending) -> Spending:
        return Spending(
            tokens=min(self.tokens + other.tokens, MAX_COUNT),
            cost=min(self.cost + other.cost, MAX_COUNT),
        )

    def __sub__(self, other: Spending) -> Spending:
        return Spending(tokens=max(self.tokens - other.tokens, 0), cost=max(self.cost - other.cost, 0))

    def __bool__(self) -> bool:
        return self.tokens > 0 or self.cost > 0

    def covers(self, other: Spending) -> bool:
        """Whether there is as much of both in it."""
        return self.tokens >= other.tokens and self.cost >= other.cost


class Drawn(Struct, frozen=True, kw_only=True):
    """Where a call's reservation was taken from: a slice that a budget has lent to the node."""

    budget: str
    slice: str


class ToolCall(Struct, frozen=True, kw_only=True):
    """What a model wants to have called. `arguments` is its own text, which need not be JSON."""

    id: str
    name: str
    arguments: str


class ModelAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a model answered: `model` is its provider's name for it, `output` what it said by the schema asked for."""

    text: str
    model: str
    finish_reason: FinishReason
    tool_calls: tuple[ToolCall, ...] = ()
    output: Any = None


class Attempt(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One try of a call: which model of which endpoint (its host and port, never its key), and how it ended.

    `code` is that of the failure, if it failed; `usage` also of one that failed or was cut off; `cost` in millionths.
    """

    endpoint: str
    model: str
    duration_seconds: float
    usage: ModelUsage = ModelUsage()
    cost: Count = 0
    price: Price | None = None
    code: str | None = None
    message: str | None = None


class KnownInput(Struct, frozen=True, kw_only=True):
    """What a provider counted for the beginning of a conversation: `tokens` for the first `bytes` of its input.

    `bytes` is the `input_bytes` of the request that was counted, `model` the attempt's: another counts otherwise. Of an
    input whose beginning is another nothing is known.
    """

    bytes: Count
    tokens: Count
    model: str | None = None


class PassBegin(Struct, frozen=True, kw_only=True):
    """Where a pass over an alias's endpoints begins: at which of them, after how many `retries` there, and how many
    `seconds` the passes before have taken.
    """

    endpoint: int = 0
    retries: int = 0
    seconds: float = 0.0


class ModelFailure(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a call gave no answer. `cut_off`: after the first token, so that readers have seen a part of it.

    `goes_on`: what was reserved for it may be used up by what failed; with as much again, another pass may begin there.
    """

    code: ErrorCode
    message: str
    cut_off: bool = False
    goes_on: PassBegin | None = None


class ModelOutcome(Struct, frozen=True, kw_only=True):
    """What came of a call: an answer, or why there is none; and every attempt, the last one made the outcome."""

    answer: ModelAnswer | None = None
    failure: ModelFailure | None = None
    attempts: tuple[Attempt, ...] = ()

    @property
    def usage(self) -> ModelUsage:
        """Of all attempts."""
        return sum((attempt.usage for attempt in self.attempts), ModelUsage())

    @property
    def cost(self) -> int:
        """Of all attempts, in millionths of a dollar."""
        return sum(attempt.cost for attempt in self.attempts)


def input_bytes(request: ModelRequest) -> int:
    """The size of all that a model reads of a request. It has more tokens in none of the known ways to count them.

    Raises TypeError, ValueError or RecursionError for what is no JSON.
    """
    return len(json.encode((request.messages, request.tools, request.output_schema)))
