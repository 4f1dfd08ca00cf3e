"""What is asked of a model and what it answers, in one shape for all kinds of endpoints; what that uses and costs.

A request is shaped as the chat completions that most endpoints understand: who speaks to another kind translates.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=0, le=1_000_000_000_000_000)]


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
    """Tokens of a call, all its attempts together. `cached` are part of `input`, `reasoning` part of `output`.

    `estimated` if the provider did not say, so that what was reserved is charged.
    """

    input_tokens: Count = 0
    cached_tokens: Count = 0
    output_tokens: Count = 0
    reasoning_tokens: Count = 0
    estimated: bool = False

    @property
    def tokens(self) -> int:
        """All of them."""
        return self.input_tokens + self.output_tokens


class Price(Struct, frozen=True, kw_only=True):
    """USD for a million tokens."""

    input: Annotated[float, Meta(ge=0)] = 0.0
    cached_input: Annotated[float, Meta(ge=0)] | None = None
    output: Annotated[float, Meta(ge=0)] = 0.0

    def cost(self, usage: ModelUsage) -> int:
        """What it costs, in millionths of a dollar, rounded up."""
        cached = self.input if self.cached_input is None else self.cached_input
        millionths = (
            (usage.input_tokens - usage.cached_tokens) * self.input
            + usage.cached_tokens * cached
            + usage.output_tokens * self.output
        )
        return -int(-millionths // 1)


class Spending(Struct, frozen=True, kw_only=True):
    """An amount of tokens and of money, reserved or spent. `cost` is in millionths of a dollar."""

    tokens: Count = 0
    cost: Count = 0

    def __add__(self, other: Spending) -> Spending:
        return Spending(tokens=self.tokens + other.tokens, cost=self.cost + other.cost)


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
