"""For authors' unit tests: runs a handler in the test's own process, without a node, a sandbox or the network.

outcome = await run(agent, {"commits": 5}, tools={"git_log": lambda **arguments: "Commit: ..."})
assert outcome.output == "1 commit"
"""

from __future__ import annotations

import asyncio
import inspect
import json
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from l02.agent.answer import Answer
from l02.agent.context import ToolError
from l02.agent.definition import Agent
from l02.agent.running.execution import Execution
from l02.agent.tools import run_tool
from l02.bus.wire.agent.lines import decode_agent_message, encode
from l02.bus.wire.agent.protocol import (
    AgentMessage,
    Call,
    CallError,
    Emit,
    Execute,
    Offer,
    OfferedTool,
    RunTool,
    ToolFailure,
)
from l02.bus.wire.agent.protocol import Answer as Answered
from l02.bus.wire.agent.values import State, from_bytes, to_json
from l02.domain.inference import FinishReason, ModelRequest, ModelUsage, ToolCall

Scripted = Answer | str | ToolError
"""What a model answers: `answer(…)`, a text alone, or why it does not."""
Script = Sequence[Scripted] | Callable[[ModelRequest], Scripted | Awaitable[Scripted]]

START = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
"""What `ctx.now()` says first; it goes on only by sleeps and timeouts, which do not wait."""


@dataclass
class Outcome:
    """How an execution ended. `calls` are in the order in which they were issued."""

    output: Any
    state: dict[str, Any]
    calls: list[Call]
    emitted: list[str]


async def run(
    agent: Agent,
    message: Any = None,
    *,
    tools: Mapping[str, Callable[..., Any]] | None = None,
    models: Mapping[str, Script] | None = None,
    signals: Mapping[str, Any] | None = None,
    state: Mapping[str, Any] | None = None,
) -> Outcome:
    """Runs the agent's handler once.

    `tools` stand in for MCP tools: functions, sync or async, that take the arguments by name; what one raises, the
    handler sees as a `ToolError` with code E2001 (or the `ToolError` itself). The agent's own tools run for real
    unless they are named there. `models` stand in for models, by their aliases: answers, one for each call, or a
    function, sync or async, that gives one for a `ModelRequest`; see `answer`. `signals` are the payloads already
    sent; a wait for another one times out. Sleeps end at once, checkpoints are not kept, and random numbers are
    always the same. Raises what the handler raises.
    """
    node = _FakeNode(agent, tools or {}, models or {}, signals or {})
    execute = Execute("test", _as_json(message), _as_json({key: _kept(value) for key, value in (state or {}).items()}))
    execution = Execution(agent, execute, node.receive, _settle)
    node.execution = execution
    try:
        output = _as_json(await execution.output())
        changes = execution.state.changes()
    finally:
        await node.close()
    final = {key: value for key, value in execute.state.items() if key not in changes.delete}
    return Outcome(output, dict(State(final | _as_json(changes.set))), node.calls, node.emitted)


def answer(
    text: str = "",
    *,
    tool_calls: Sequence[tuple[str, Mapping[str, Any]]] = (),
    output: Any = None,
    input_tokens: int = 0,
    output_tokens: int = 0,
    cost: float = 0.0,
) -> Answer:
    """What a model may answer in a test; `tool_calls` are names of tools with their arguments, `cost` is in USD."""
    calls = tuple(
        ToolCall(id=f"call-{number}", name=name, arguments=json.dumps(arguments))
        for number, (name, arguments) in enumerate(tool_calls, 1)
    )
    return Answer(
        text=text,
        model="scripted",
        finish_reason=FinishReason.TOOL_CALLS if calls else FinishReason.STOP,
        tool_calls=calls,
        output=output,
        usage=ModelUsage(input_tokens=input_tokens, output_tokens=output_tokens),
        cost=cost,
    )


def _one_after_another(alias: str, answers: Sequence[Scripted]) -> Callable[[ModelRequest], Scripted]:
    left = iter(answers)

    def next_one(request: ModelRequest) -> Scripted:
        said = next(left, None)
        if said is None:
            raise _failed(f"the handler asks the model {alias!r} more often than `models` has answers")
        return said

    return next_one


async def _settle() -> None:
    await asyncio.sleep(0)


def _kept(value: Any) -> Any:
    return from_bytes(value) if isinstance(value, bytes) else value


def _as_json(value: Any) -> Any:
    return msgspec.json.decode(to_json(value, "the value"))


@dataclass
class _FakeNode:
    agent: Agent
    tools: Mapping[str, Callable[..., Any]]
    models: Mapping[str, Script]
    signals: Mapping[str, Any]
    calls: list[Call] = field(default_factory=list)
    emitted: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.execution: Execution | None = None
        self._now = START
        self._random = random.Random(0)  # noqa: S311  the same numbers in each test run
        self._answers: set[asyncio.Task[None]] = set()
        self._scripts = {
            alias: answers if callable(answers) else _one_after_another(alias, answers)
            for alias, answers in self.models.items()
        }

    def receive(self, message: AgentMessage) -> None:
        message = decode_agent_message(encode(message)[:-1])
        if isinstance(message, Emit):
            self.emitted.append(message.delta)
        elif isinstance(message, Call):
            self.calls.append(message)
            self._answers.add(asyncio.create_task(self._answer(message)))

    async def close(self) -> None:
        for task in self._answers:
            task.cancel()
        await asyncio.gather(*self._answers, return_exceptions=True)

    async def _answer(self, call: Call) -> None:
        assert self.execution is not None
        try:
            result = msgspec.json.decode(to_json(await self._effect(call), f"the result of {call.tool}"))
            message = Answered(call.execution_id, call.call, True, result=result)
        except Exception as error:
            failed = error if isinstance(error, ToolError) else _failed(f"{type(error).__name__}: {error}")
            failure = CallError(failed.code, failed.name, failed.message, failed.content)
            message = Answered(call.execution_id, call.call, False, error=failure)
        self.execution.answer(message)
        self.execution.take_in()

    async def _effect(self, call: Call) -> Any:
        match call:
            case Call(kind="now"):
                return self._now
            case Call(kind="random"):
                return self._random.random()
            case Call(kind="sleep", seconds=float() as seconds):
                self._now += seconds
            case Call(kind="signal", name=str() as name, timeout=timeout):
                if name in self.signals:
                    return self.signals[name]
                if not isinstance(timeout, float):
                    raise _failed(f"the handler waits for the signal {name!r} for ever; give it in `signals`")
                self._now += timeout
            case Call(kind="tools"):
                return self._offer()
            case Call(kind="checkpoint"):
                return f"checkpoint-{call.call}"
            case Call(kind="tool", tool=str() as tool, arguments=dict() as arguments):
                return await self._tool(call, tool, arguments)
            case Call(kind="model", model=str() as alias):
                return await self._model(call, alias)
        return None

    def _offer(self) -> Offer:
        own = [
            OfferedTool(tool.name, tool.description, tool.schema, idempotent=tool.idempotent)
            for tool in self.agent.descriptions()
        ]
        names = {tool.name for tool in own}
        others = [OfferedTool(name, "", {"type": "object"}) for name in self.tools if name not in names]
        return Offer((*own, *others))

    async def _model(self, call: Call, alias: str) -> Any:
        if alias not in self._scripts:
            raise ToolError("E2114", "NOT_AUTHORIZED", f"the handler asks the model {alias!r}; script it in `models`")
        said = self._scripts[alias](call.request)
        said = await said if inspect.isawaitable(said) else said
        given = answer(said) if isinstance(said, str) else said
        if isinstance(given, Exception):
            raise given
        if call.stream is True and given.text:
            self.emitted.append(given.text)
        return msgspec.to_builtins(given)

    async def _tool(self, call: Call, tool: str, arguments: dict[str, Any]) -> Any:
        if tool in self.tools:
            result = self.tools[tool](**arguments)
            return await result if inspect.isawaitable(result) else result
        done = await run_tool(self.agent, RunTool(call.execution_id, call.call, tool, arguments))
        if isinstance(done.error, ToolFailure):
            raise _failed(done.error.message)
        return done.result


def _failed(message: str) -> ToolError:
    return ToolError("E2001", "TOOL_INVOCATION_FAILED", message)
