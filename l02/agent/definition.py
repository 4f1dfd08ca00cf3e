"""How an author says what an agent can do: the `Agent` object of an agent's file."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, TypeVar, overload

import msgspec

from l02.agent.context import Context
from l02.bus.wire.agent.protocol import ToolDescription

Handler = Callable[[Context, Any], Awaitable[Any] | AsyncGenerator[str, None]]
_FunctionT = TypeVar("_FunctionT", bound=Callable[..., Any])
_HandlerT = TypeVar("_HandlerT", bound=Handler)

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_WRITE_THIS = "write `async def handle(ctx, message): ...`"


class Tool:
    """A function of the agent's own, with a JSON Schema of its arguments made from its types."""

    def __init__(
        self, function: Callable[..., Any], name: str | None, description: str | None, idempotent: bool
    ) -> None:
        self.function = function
        if not inspect.isfunction(function):
            raise TypeError(f"a tool is a function, not {type(function).__name__}")
        self.name = function.__name__ if name is None else name
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"a tool's name is 1 to 64 letters, digits, _ or -, not {self.name!r}")
        self._arguments = _argument_struct(function, self.name)
        self.description = ToolDescription(
            name=self.name,
            description=inspect.cleandoc((description or function.__doc__ or "").strip()),
            schema=_schema(self._arguments, self.name),
            idempotent=idempotent,
        )

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.function)

    def convert(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments as the function's types. Raises `ValueError`, naming the field that does not fit."""
        try:
            fields = msgspec.convert(arguments, self._arguments, strict=True)
        except Exception as error:  # msgspec's, or that of an author's type
            raise ValueError(f"the arguments of tool {self.name!r} do not fit: {error}") from error
        return {name: getattr(fields, name) for name in self._arguments.__struct_fields__}


class Agent:
    """An agent: a name, one message handler, and tools of its own.

    agent = Agent("historian")

    @agent.tool
    def count_words(text: str) -> int: ...

    @agent.on_message
    async def handle(ctx, message): ...
    """

    def __init__(self, name: str) -> None:
        if not isinstance(name, str) or not name:
            raise ValueError("an agent needs a name: Agent('historian')")
        self.name = name
        self.tools: dict[str, Tool] = {}
        self.handler: Handler | None = None

    @overload
    def tool(self, function: _FunctionT, /) -> _FunctionT: ...

    @overload
    def tool(
        self, /, *, name: str | None = None, description: str | None = None, idempotent: bool = False
    ) -> Callable[[_FunctionT], _FunctionT]: ...

    def tool(
        self,
        function: _FunctionT | None = None,
        /,
        *,
        name: str | None = None,
        description: str | None = None,
        idempotent: bool = False,
    ) -> _FunctionT | Callable[[_FunctionT], _FunctionT]:
        """Makes a function, sync or async, a tool: `@agent.tool` or `@agent.tool(idempotent=True)`.

        The docstring is the description unless `description` says another. `idempotent` means that it may be run
        again when the agent or its node died before the result was on record; such a tool costs no way to the node. A
        sync function runs in a thread. Raises `TypeError` for a signature
        of which no schema can be made, `ValueError` for a name in use.
        """

        def add(function: _FunctionT) -> _FunctionT:
            tool = Tool(function, name, description, idempotent)
            if tool.name in self.tools:
                raise ValueError(f"{self.name} has a tool named {tool.name} already")
            self.tools[tool.name] = tool
            return function

        return add if function is None else add(function)

    def on_message(self, handler: _HandlerT, /) -> _HandlerT:
        """Makes an async function or an async generator the agent's handler.

        A function returns the output, a JSON value. A generator yields text, which is streamed; all of it together
        is the output. Raises `TypeError` for any other function.
        """
        if self.handler is not None:
            raise TypeError(f"{self.name} has a handler already; an agent has one")
        is_async = inspect.iscoroutinefunction(handler) or inspect.isasyncgenfunction(handler)
        if not (is_async and inspect.isfunction(handler)):
            raise TypeError(f"on_message takes an async function: {_WRITE_THIS}")
        try:
            inspect.signature(handler).bind(None, None)
        except TypeError as error:
            raise TypeError(f"on_message takes a function of two arguments: {_WRITE_THIS}") from error
        self.handler = handler
        return handler

    def descriptions(self) -> list[ToolDescription]:
        """What the agent announces about its tools."""
        return [tool.description for tool in self.tools.values()]


def _argument_struct(function: Callable[..., Any], tool: str) -> type[msgspec.Struct]:
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"the tool {tool} is a generator; it must return its result")
    try:
        types = typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise TypeError(f"the types of the tool {tool} are not known here: {error}") from error
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(f"the tool {tool} takes {parameter}; its arguments must each have a name")
        if parameter.name not in types:
            raise TypeError(f"say the type of {tool}'s argument: `{parameter.name}: str`")
        if parameter.default is parameter.empty:
            fields.append((parameter.name, types[parameter.name]))
        else:
            fields.append((parameter.name, types[parameter.name], _default(parameter.default)))
    return msgspec.defstruct(tool.replace("-", "_"), fields, kw_only=True, forbid_unknown_fields=True)


def _default(value: Any) -> Any:
    """A default for msgspec, which refuses mutable ones: those are passed on as Python itself would."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return msgspec.field(default_factory=lambda: value)


def _schema(arguments: type[msgspec.Struct], tool: str) -> dict[str, Any]:
    """A schema with the arguments at its top, as those who call tools expect; types they use are in `$defs`."""
    try:
        (top,), components = msgspec.json.schema_components([arguments], ref_template="#/$defs/{name}")
    except TypeError as error:
        raise TypeError(f"no JSON Schema can be made of the types of the tool {tool}: {error}") from error
    schema = components.pop(top["$ref"].removeprefix("#/$defs/"))
    return {**schema, "$defs": components} if components else schema
