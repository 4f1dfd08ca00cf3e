"""The messages between an agent's process and its node, and how they become lines.

Both ends import this file, so they cannot disagree; `docs/agent-protocol.md` describes the same for other
languages. Standard library and msgspec only: it is loaded inside the sandbox.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from l02.bus.wire.agent.conversation import Asked
from l02.bus.wire.agent.parts import Alias, Code, Message, Name, Part, SignalName
from l02.domain.inference import ModelRequest

PROTOCOL = 1
"""The version that `hello` announces."""

MAX_TOOLS = 500
"""Tools that one `hello` may announce."""

MAX_SCHEMA_BYTES = 64 * 1024
"""Bytes of the JSON Schema of one tool's arguments."""

_encoder = msgspec.json.Encoder()


CallKind = Literal["tool", "tools", "model", "now", "random", "sleep", "signal", "checkpoint"]
StepKind = Literal["tool", "now", "random", "thread"]
_Number = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Seconds = Annotated[float, msgspec.Meta(ge=0)]


class _Message(Part, frozen=True, tag_field="type"):
    """A message; its class is told by the field `type`."""


class ToolDescription(Part, frozen=True):
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


class OfferedTool(Part, frozen=True, omit_defaults=True):
    """A tool that the agent may call, by `name`; that of a `server` begins with the server's name and a dot.

    `schema` is the JSON Schema of its arguments, `asks` whether a person must say yes to each call.
    """

    name: Name
    description: Message
    schema: dict[str, Any]
    server: Name | UnsetType = UNSET
    idempotent: bool = False
    asks: bool = False


class Offer(msgspec.Struct, frozen=True):
    """The answer to a call of kind `tools`: all tools there are, and what keeps others from being told."""

    tools: tuple[OfferedTool, ...]
    problems: tuple[Message, ...] = ()


class Hello(_Message, frozen=True, tag="hello"):
    """The agent's code is loaded and it waits for work.

    One that `records_steps` runs its idempotent tools, the clock and chance itself, and says so with `Steps`.
    """

    protocol: int
    name: Name
    tools: list[ToolDescription] = msgspec.field(default_factory=list)
    answers_pings: bool = False
    records_steps: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.tools) > MAX_TOOLS:
            raise ValueError(f"{len(self.tools):,} tools are announced, at most {MAX_TOOLS} may be")


class LoadFailed(_Message, frozen=True, tag="load_failed"):
    """The agent's code cannot be loaded, and trying again will not help."""

    message: Message


class Step(Part, frozen=True, omit_defaults=True):
    """What the agent did itself: took the time, a random number, ran an idempotent tool of its own, or had a thread.

    `after` is how many answers of the node's it had taken in before it took in this. `call` is its number among the
    calls; of a thread, which has no result on record, its number among the threads. `result` of one that is not `ok` is
    `{code, message}`.
    """

    call: _Number
    kind: StepKind
    after: _Count
    tool: Name | UnsetType = UNSET
    arguments: dict[str, Any] | UnsetType = UNSET
    ok: bool = True
    result: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.kind == "tool") != (self.tool is not UNSET) or (self.tool is UNSET) != (self.arguments is UNSET):
            raise ValueError("a step of kind `tool`, and no other, has the fields `tool` and `arguments`")
        if not self.ok and not (self.kind == "tool" and _is_failure(self.result)):
            raise ValueError("the result of a tool that failed is an object with the texts `code` and `message`")


def _is_failure(result: Any) -> bool:
    return isinstance(result, dict) and all(isinstance(result.get(key), str) for key in ("code", "message"))


class Begin(_Message, frozen=True, tag="begin"):
    """The agent begins to run an idempotent tool of its own, or tries it again.

    Nobody answers: the node only sees what takes so long. It ends with its step, or the execution.
    """

    execution_id: Name
    call: _Number
    tool: Name


class Steps(_Message, frozen=True, tag="steps"):
    """What the agent did itself, in the order in which it took in the results. Said before what rests on it."""

    execution_id: Name
    steps: list[Step]


class Diverged(_Message, frozen=True, tag="diverged"):
    """The agent does not do what its recorded steps say it did; the execution fails (E2116)."""

    execution_id: Name
    message: Message


class StateChanges(msgspec.Struct, frozen=True):
    """What an execution changed in the agent's durable state."""

    set: dict[str, Any] = {}
    delete: list[str] = []


class Call(_Message, frozen=True, tag="call", dict=True):
    """The agent wants an effect. Which of the last fields are set depends on `kind`.

    `seconds` and `timeout` are seconds; a `timeout` of null waits for ever. `state` is what the execution has changed
    so far. `model` is the alias of one, and what follows it is what it is asked (`l02.domain.inference.ModelRequest`).
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
    model: Alias | UnsetType = UNSET
    messages: list[dict[str, Any]] | UnsetType = UNSET
    tools: list[dict[str, Any]] | UnsetType = UNSET
    tool_choice: Any = UNSET
    output_schema: dict[str, Any] | UnsetType | None = UNSET
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=2**53)] | UnsetType | None = UNSET
    temperature: float | UnsetType | None = UNSET
    stream: bool | UnsetType = UNSET
    parameters: dict[str, Any] | UnsetType = UNSET

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in _FIELDS_OF_KIND.get(self.kind, ()):
            if getattr(self, field) is UNSET:
                raise ValueError(f"a call of kind `{self.kind}` needs the field `{field}`")

    @cached_property
    def request(self) -> ModelRequest:
        """What a model is asked."""
        given = {name: value for name in REQUEST_FIELDS if (value := getattr(self, name)) is not UNSET}
        for name in ("messages", "tools"):
            if name in given:
                given[name] = tuple(given[name])
        return ModelRequest(**given)

    @cached_property
    def asked(self) -> Asked:
        """The same by its hashes."""
        assert self.model is not UNSET
        return Asked.of(self.model, self.request)


REQUEST_FIELDS = tuple(field.name for field in msgspec.structs.fields(ModelRequest))
_FIELDS_OF_KIND: dict[str, tuple[str, ...]] = {
    "tool": ("tool", "arguments"),
    "sleep": ("seconds",),
    "signal": ("name", "timeout"),
    "checkpoint": ("label", "state"),
    "model": ("model", "messages"),
}


class ToolFailure(Part, frozen=True):
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
    n: _Count
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


class OwnSteps(msgspec.Struct, frozen=True):
    """What an agent that records its steps has to know for that.

    `recorded` steps follow in `Recorded` messages before anything else; the agent begins once it has them. `answers`
    are on record too: what the agent does itself, and is not on record, is taken in after all of those, as a call whose
    answer is on record never rested on it. The agent's own tools are given `tool_timeout_seconds`,
    `max_concurrent_tools` run at a time, and one that fails is tried again `max_tool_retries` times. `tokens` of
    `window_tokens` are used before the execution's first call.
    """

    recorded: int
    answers: int
    tool_timeout_seconds: float
    max_concurrent_tools: int
    max_tool_retries: int
    tokens: int
    window_tokens: int


class Execute(_Message, frozen=True, tag="execute", omit_defaults=True):
    """Run this; the next comes only after `Complete` or `Fail`. `own` is there for who records steps."""

    execution_id: Name
    input: Any
    state: dict[str, Any]
    own: OwnSteps | UnsetType = UNSET


class Recorded(_Message, frozen=True, tag="recorded"):
    """Steps of an earlier run, in their order: they are not done again, and taken in where they were."""

    execution_id: Name
    steps: list[Step]


class CallError(Part, frozen=True):
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


AgentMessage = Hello | LoadFailed | Call | ToolResult | Begin | Steps | Diverged | Emit | Complete | Fail | Pong
"""What an agent sends."""


class TooHeavy(Part, frozen=True):
    """A message whose values the node does not build: to do so would keep it from others. Only this is known of it."""

    type: Name
    execution_id: Name = ""
    call: int = 0


NodeMessage = Execute | Recorded | Answer | RunTool | Shutdown | Ping
"""What a node sends."""


def _check_outcome(ok: bool, result: object, error: object) -> None:
    if ok and (result is UNSET or error is not UNSET):
        raise ValueError("with `ok` true there must be a `result` and no `error`")
    if not ok and (error is UNSET or result is not UNSET):
        raise ValueError("with `ok` false there must be an `error` and no `result`")
