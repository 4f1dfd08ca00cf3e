"""What an agent may ask: held to the shape of chat completions before anything is reserved or sent.

So who translates a request for an endpoint need not doubt it, and nothing in it spends what was not reserved.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from l02.domain.errors import ErrorCode, Failure
from l02.domain.inference import ModelRequest, input_bytes

# They are the bridge's own, or make an endpoint read, do or charge for more than the request says.
# fmt: off
_NOT_FOR_AGENTS = frozenset(
    {
        "background", "best_of", "container", "context_management", "conversation", "fallbacks",
        "function_call", "functions", "inference_geo", "input", "instructions", "logprobs",
        "max_completion_tokens", "max_output_tokens", "max_tokens", "mcp_servers", "messages", "modalities",
        "model", "models", "n", "plugins", "prediction", "previous_response_id", "prompt", "provider",
        "route", "service_tier", "speed", "store", "stream", "stream_options", "system", "tool_choice",
        "tools", "top_logprobs", "transforms", "web_search_options",
    }
)
# fmt: on

MAX_TOKENS = 100_000_000
"""Of an answer, and of anything else that one call can have to do with."""


class Function(Struct, frozen=True):
    """What an assistant wanted to have called."""

    name: str
    arguments: str = ""


class Called(Struct, frozen=True):
    """A tool call in an assistant's message."""

    id: str
    function: Function


class Message(Struct, frozen=True):
    """A message as chat completions have it. Content is a text, or parts that each say their type."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[Called] | None = None
    tool_call_id: str | None = None

    @property
    def parts(self) -> list[dict[str, Any]]:
        """Its content as parts."""
        if isinstance(self.content, str):
            return [{"type": "text", "text": self.content}] if self.content else []
        return self.content or []


class Offered(Struct, frozen=True, omit_defaults=True):
    """What a tool is, for the model."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Struct, frozen=True):
    """A tool that the agent itself will call: an endpoint's own would be charged for without being reserved."""

    type: Literal["function"]
    function: Offered


class _Asked(Struct, frozen=True):
    messages: Annotated[list[Message], Meta(min_length=1)]
    tools: list[Tool]


class Checked(Struct, frozen=True):
    """A request that holds what it should; `bytes` is the size of all in it that a model may read.

    `parameters` are those that an endpoint may be given.
    """

    request: ModelRequest
    parameters: dict[str, Any]
    messages: list[Message]
    tools: list[Tool]
    bytes: int


def check(request: ModelRequest) -> Checked:
    """The request, read. Raises Failure E2110 that names the field."""
    for key, value in request.parameters.items():
        if key in _NOT_FOR_AGENTS and value not in (None, False) and (key, value) != ("n", 1):
            raise Failure(
                ErrorCode.COMMAND_INVALID,
                f"the parameter {key!r} is not the agent's to give; leave it out",
                f"$.parameters.{key}",
            )
    if (request.max_tokens or 0) > MAX_TOKENS:
        raise Failure(ErrorCode.COMMAND_INVALID, f"no model answers with more than {MAX_TOKENS} tokens", "$.max_tokens")
    try:
        asked = msgspec.convert({"messages": request.messages, "tools": request.tools}, _Asked)
        size = input_bytes(request) + len(msgspec.json.encode((request.tool_choice, request.parameters)))
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `")
        raise Failure(
            ErrorCode.COMMAND_INVALID, f"a model cannot be asked this: {message}", where[:-1] or None
        ) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise Failure(ErrorCode.COMMAND_INVALID, f"a model's request takes JSON: {error}", "$.messages") from error
    parameters = {key: value for key, value in request.parameters.items() if key not in _NOT_FOR_AGENTS}
    return Checked(request, parameters, asked.messages, asked.tools, size)
