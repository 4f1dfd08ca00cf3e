"""The messages between an agent's process and its node, and how they become lines.

Both ends import this file, so they cannot disagree; `docs/agent-protocol.md` describes the same for other
languages. Standard library and msgspec only: it is loaded inside the sandbox.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

import msgspec
from msgspec import UNSET, UnsetType

from l02.bus.wire.agent.texts import MESSAGE_BYTES, cut

PROTOCOL = 1
"""The version that `hello` announces."""

MAX_LINE = 16 * 1024 * 1024
"""Bytes of one message, without the newline that ends it."""

MAX_TOOLS = 500
"""Tools that one `hello` may announce."""

MAX_SCHEMA_BYTES = 64 * 1024
"""Bytes of the JSON Schema of one tool's arguments."""

_encoder = msgspec.json.Encoder()


class _Cut(msgspec.Struct, frozen=True):
    """The text of a field has at most so many bytes; a longer one is cut where it is decoded."""

    limit: int


Message = Annotated[str, _Cut(MESSAGE_BYTES)]
Name = Annotated[str, _Cut(256)]
Code = Annotated[str, _Cut(64)]
SignalName = Annotated[str, _Cut(128)]


@cache
def _limits(kind: type) -> tuple[tuple[str, int], ...]:
    hints = get_type_hints(kind, include_extras=True)
    return tuple(
        (name, part.limit)
        for name, hint in hints.items()
        for one in (hint, *getattr(hint, "__args__", ()))
        for part in getattr(one, "__metadata__", ())
        if isinstance(part, _Cut)
    )


CallKind = Literal["tool", "now", "random", "sleep", "signal", "checkpoint"]
_Number = Annotated[int, msgspec.Meta(ge=1)]
_Seconds = Annotated[float, msgspec.Meta(ge=0)]


class ProtocolError(Exception):
    """What came over the socket is no message of this protocol, or what should go is too large for it."""


class _Part(msgspec.Struct, frozen=True):
    """A part of a message, whose texts are as long as their types allow, whoever made it."""

    def __post_init__(self) -> None:
        for field, limit in _limits(type(self)):
            text = getattr(self, field)
            if isinstance(text, str) and len(text) * 4 > limit:
                msgspec.structs.force_setattr(self, field, cut(text, limit))


class _Message(_Part, frozen=True, tag_field="type"):
    """A message; its class is told by the field `type`."""


class ToolDescription(_Part, frozen=True):
    """A tool that runs inside the agent's process. `schema` is the JSON Schema of its arguments."""

    name: Name
    description: Message
    schema: dict[str, Any]
    idempotent: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        size = len(_encoder.encode(self.schema))
        if size > MAX_SCHEMA_BYTES:
            raise ValueError(
                f"the schema of tool {self.name!r} has {size:,} bytes, at most {MAX_SCHEMA_BYTES:,} may be"
            )


class Hello(_Message, frozen=True, tag="hello"):
    """The agent's code is loaded and it waits for work."""

    protocol: int
    name: Name
    tools: list[ToolDescription] = []
    answers_pings: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.tools) > MAX_TOOLS:
            raise ValueError(f"{len(self.tools):,} tools are announced, at most {MAX_TOOLS} may be")


class LoadFailed(_Message, frozen=True, tag="load_failed"):
    """The agent's code cannot be loaded, and trying again will not help."""

    message: Message


class StateChanges(msgspec.Struct, frozen=True):
    """What an execution changed in the agent's durable state."""

    set: dict[str, Any] = {}
    delete: list[str] = []


class Call(_Message, frozen=True, tag="call"):
    """The agent wants an effect. Which of the last fields are set depends on `kind`.

    `seconds` and `timeout` are seconds; a `timeout` of null waits for ever. `state` is what the execution has changed
    so far.
    """

    execution_id: Name
    call: _Number
    kind: CallKind
    tool: Name | UnsetType = UNSET
    arguments: dict[str, Any] | UnsetType = UNSET
    seconds: _Seconds | UnsetType = UNSET
    name: SignalName | UnsetType = UNSET
    timeout: _Seconds | UnsetType | None = UNSET
    label: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | UnsetType | None = UNSET
    state: StateChanges | UnsetType = UNSET

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in _FIELDS_OF_KIND.get(self.kind, ()):
            if getattr(self, field) is UNSET:
                raise ValueError(f"a call of kind `{self.kind}` needs the field `{field}`")


_FIELDS_OF_KIND: dict[str, tuple[str, ...]] = {
    "tool": ("tool", "arguments"),
    "sleep": ("seconds",),
    "signal": ("name", "timeout"),
    "checkpoint": ("label", "state"),
}


class ToolFailure(_Part, frozen=True):
    """Why a tool inside the agent failed."""

    message: Message


class ToolResult(_Message, frozen=True, tag="tool_result"):
    """The answer to `RunTool`: `result` when `ok`, else `error`."""

    execution_id: Name
    call: _Number
    ok: bool
    result: Any = UNSET
    error: ToolFailure | UnsetType = UNSET

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_outcome(self.ok, self.result, self.error)


class Emit(_Message, frozen=True, tag="emit"):
    """A piece of streamed output; `n` counts from 0 in each execution."""

    execution_id: Name
    n: Annotated[int, msgspec.Meta(ge=0)]
    delta: str


class Complete(_Message, frozen=True, tag="complete"):
    """The execution ended well."""

    execution_id: Name
    output: Any
    state: StateChanges = StateChanges()


class Fail(_Message, frozen=True, tag="fail"):
    """The execution ended badly. `code` and `name` are those of the failure which the agent did not catch."""

    execution_id: Name
    message: Message
    code: Code | UnsetType = UNSET
    name: Name | UnsetType = UNSET


class Execute(_Message, frozen=True, tag="execute"):
    """Run this; the next comes only after `Complete` or `Fail`."""

    execution_id: Name
    input: Any
    state: dict[str, Any]


class CallError(_Part, frozen=True):
    """Why a call failed: code and name from the catalogue of errors, and a message for a person.

    `content` is all that a tool server's error held, if the message does not say it (`docs/tools.md`).
    """

    code: str
    name: str
    message: Message
    content: Any = UNSET


class Answer(_Message, frozen=True, tag="answer"):
    """The answer to a `Call`: `result` when `ok`, else `error`."""

    execution_id: Name
    call: _Number
    ok: bool
    result: Any = UNSET
    error: CallError | UnsetType = UNSET

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_outcome(self.ok, self.result, self.error)


class RunTool(_Message, frozen=True, tag="run_tool"):
    """Run a tool of your own, because of your call with that number."""

    execution_id: Name
    call: _Number
    tool: Name
    arguments: dict[str, Any]


class Shutdown(_Message, frozen=True, tag="shutdown"):
    """End yourself."""


class Ping(_Message, frozen=True, tag="ping"):
    """Say that you are alive. Only for one who has promised to answer."""


class Pong(_Message, frozen=True, tag="pong"):
    """The answer to `Ping`."""


AgentMessage = Hello | LoadFailed | Call | ToolResult | Emit | Complete | Fail | Pong
"""What an agent sends."""


class TooHeavy(_Part, frozen=True):
    """A message whose values the node does not build: to do so would keep it from others. Only this is known of it."""

    type: Name
    execution_id: Name = ""
    call: int = 0


NodeMessage = Execute | Answer | RunTool | Shutdown | Ping
"""What a node sends."""


def _check_outcome(ok: bool, result: object, error: object) -> None:
    if ok and (result is UNSET or error is not UNSET):
        raise ValueError("with `ok` true there must be a `result` and no `error`")
    if not ok and (error is UNSET or result is not UNSET):
        raise ValueError("with `ok` false there must be an `error` and no `result`")


_from_agent: msgspec.json.Decoder[AgentMessage] = msgspec.json.Decoder(AgentMessage)
_envelope: msgspec.json.Decoder[TooHeavy] = msgspec.json.Decoder(TooHeavy)
_from_node: msgspec.json.Decoder[NodeMessage] = msgspec.json.Decoder(NodeMessage)


def encode(message: AgentMessage | NodeMessage) -> bytes:
    """The line of a message, newline included.

    Raises `ProtocolError` when it is over `MAX_LINE`, and what msgspec raises for a value that JSON cannot hold.
    """
    line = _encoder.encode(message)
    if len(line) > MAX_LINE:
        raise ProtocolError(f"the message has {len(line):,} bytes, and {MAX_LINE:,} (16 MiB) are allowed")
    return line + b"\n"


def decode_agent_message(line: bytes) -> AgentMessage:
    """The message an agent sent. Raises `ProtocolError` for anything else."""
    return _decode(_from_agent, line)


def decode_envelope(line: bytes) -> TooHeavy:
    """What is known of a message that is not built. Raises `ProtocolError` for what is none."""
    return _decode(_envelope, line)


def decode_node_message(line: bytes) -> NodeMessage:
    """The message a node sent. Raises `ProtocolError` for anything else."""
    return _decode(_from_node, line)


_MessageT = TypeVar("_MessageT")


def _decode(decoder: msgspec.json.Decoder[_MessageT], line: bytes) -> _MessageT:
    if len(line) > MAX_LINE:
        raise ProtocolError(f"a line is longer than {MAX_LINE:,} bytes (16 MiB)")
    try:
        return decoder.decode(line)
    except (ValueError, RecursionError) as error:  # msgspec's own errors and UnicodeDecodeError are ValueErrors
        raise ProtocolError(cut(f"not a message: {error}")) from error


class LineBuffer:
    """Cuts the bytes of a stream into lines, and holds no more than one line of `MAX_LINE`."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The lines which these bytes end, without their newlines.

        Raises `ProtocolError` once a line is over `MAX_LINE`.
        """
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            yield self._take(data[start:end])
            start = end + 1
        self._extend(data[start:])

    def _take(self, rest: bytes) -> bytes:
        self._extend(rest)
        line = bytes(self._bytes)
        self._bytes.clear()
        return line

    def _extend(self, data: bytes) -> None:
        if len(self._bytes) + len(data) > MAX_LINE:
            raise ProtocolError(f"a line is longer than {MAX_LINE:,} bytes (16 MiB)")
        self._bytes += data
