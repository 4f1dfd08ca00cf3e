"""What a handler is given: the only way from inside a sandbox to anything outside of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from l02.agent.answer import Answer
from l02.bus.wire.agent.protocol import CallKind, Offer
from l02.bus.wire.agent.values import State, to_json

_MAX_LABEL = 200


class ToolError(Exception):
    """A call failed. It can be caught; not caught, it fails the execution with its code.

    `code` and `name` are those of the catalogue of errors (`E2001`, `TOOL_INVOCATION_FAILED`), `message` says
    what happened. `content` is all that a tool server said, a JSON value, if that is more than the message.
    """

    def __init__(self, code: str, name: str, message: str, content: Any = None) -> None:
        super().__init__(f"{code} {name}: {message}")
        self.code = code
        self.name = name
        self.message = message
        self.content = content


class Effects(Protocol):
    """What stands behind a context."""

    async def call(self, kind: CallKind, **fields: Any) -> Any:
        """The result of a call. Raises `ToolError` when it failed."""

    def emit(self, delta: str) -> None:
        """Streams a piece of output."""


class Context:
    """One execution, seen by its handler.

    Every call is recorded. After a crash the handler runs again and gets the recorded answers, so it must make the
    same calls when it gets the same answers: take time, randomness, waiting and everything from outside from here.
    Calls may be open side by side (`asyncio.gather`, `asyncio.TaskGroup`); they are numbered as they are issued.
    """

    def __init__(self, agent_name: str, execution_id: str, state: State, effects: Effects) -> None:
        self.agent_name = agent_name
        self.execution_id = execution_id
        self.state = state
        """Durable: JSON values or bytes under text keys. Kept when the execution completes, dropped when it fails."""
        self._effects = effects

    async def tool(self, name: str, /, **arguments: Any) -> Any:
        """Calls a tool: an MCP tool of the specification, or one of the agent's own.

        Returns its result, a JSON value. Raises `ToolError` when it failed, timed out, is unknown or does not
        take these arguments; `TypeError` for arguments that are not JSON values.
        """
        if not isinstance(name, str):
            raise TypeError(f"a tool's name is text, not {type(name).__name__}")
        return await self._effects.call("tool", tool=name, arguments=arguments)

    async def tools(self) -> Offer:
        """What tools there are: the agent's own, and those of the specification's servers.

        Each of its `tools` has `name`, as `tool` takes it, `description`, `schema` (the JSON Schema of its arguments),
        `server` if it has one, `idempotent` and `asks`. `problems` say in words which servers do not say theirs at
        present, and what was left out.
        """
        return msgspec.convert(await self._effects.call("tools"), Offer)

    async def model(
        self,
        messages: str | Sequence[Mapping[str, Any]],
        model: str,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: Any = None,
        output_schema: Mapping[str, Any] | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        stream: bool = False,
        parameters: Mapping[str, Any] | None = None,
    ) -> Answer:
        """Asks a model, by an alias that the specification lists in `models`.

        `messages` and `tools` are those of chat completions; one text is a user's message. `output_schema` is the JSON
        Schema of `answer.output`, `max_tokens` bounds the answer, `parameters` are given to the provider as they are.
        With `stream` the text goes to whoever watches the execution while it comes. Raises `ToolError` if there is no
        answer (E2100 to E2103), the agent may not ask the model (E2114), may not spend so much (E2072), or asks more
        than fits (E2003, E2115); `TypeError` for what is no JSON.
        """
        said = [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
        fields = {
            "messages": said,
            "tools": None if tools is None else list(tools),
            "tool_choice": tool_choice,
            "output_schema": output_schema,
            "max_tokens": max_tokens,
            "temperature": temperature,
            "parameters": parameters,
        }
        given = {name: value for name, value in fields.items() if value is not None}
        for name, value in given.items():
            to_json(value, name)
        return msgspec.convert(await self._effects.call("model", model=model, stream=stream, **given), Answer)

    async def sleep(self, seconds: float) -> None:
        """Waits; also while the agent is suspended or its node is down."""
        await self._effects.call("sleep", seconds=_duration(seconds, "seconds"))

    async def now(self) -> datetime:
        """The time, in UTC; the same one again when the execution is run again."""
        return datetime.fromtimestamp(await self._effects.call("now"), UTC)

    async def random(self) -> float:
        """A random number in [0, 1); the same one again when the execution is run again."""
        return float(await self._effects.call("random"))

    async def wait_for_signal(self, name: str, timeout: float | None = None) -> Any:
        """Waits until a signal of this name is sent to the agent: a person's approval, an outside event.

        Returns the signal's payload, or None when `timeout` seconds went by without one.
        """
        if not isinstance(name, str):
            raise TypeError(f"a signal's name is text, not {type(name).__name__}")
        limit = None if timeout is None else _duration(timeout, "timeout")
        return await self._effects.call("signal", name=name, timeout=limit)

    async def checkpoint(self, label: str | None = None) -> str:
        """Stores a checkpoint that the agent can be brought back to, with `ctx.state` as it is now; gives its id.

        If nothing has changed since the newest one, that is it. Raises `ToolError` (E2030, E2031) when it cannot be
        stored; the agent may go on without.
        """
        if label is not None and (not isinstance(label, str) or not 1 <= len(label) <= _MAX_LABEL):
            raise ValueError(f"a label is a text of 1 to {_MAX_LABEL} characters, not {label!r}")
        return str(await self._effects.call("checkpoint", label=label, state=self.state.changes()))

    def emit(self, text: str) -> None:
        """Streams a piece of output at once, and does not wait for the reader: for much text, `yield` it."""
        if not isinstance(text, str):
            raise TypeError(f"ctx.emit streams text, not {type(text).__name__}")
        self._effects.emit(text)


def _duration(seconds: float, what: str) -> float:
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"{what} must be a finite number of seconds, 0 or more, not {seconds!r}")
    return float(seconds)
