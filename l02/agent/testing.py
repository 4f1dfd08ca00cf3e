"""For authors' unit tests: runs a handler in the test's own process, without a node, a sandbox or the network.

outcome = await run(agent, {"commits": 5}, tools={"git_log": lambda **arguments: "Commit: ..."})
assert outcome.output == "1 commit"
"""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from l02.agent.context import ToolError
from l02.agent.definition import Agent
from l02.agent.execution import Execution
from l02.agent.tools import run_tool
from l02.bus.wire.agent.lines import decode_agent_message, encode
from l02.bus.wire.agent.protocol import (
    AgentMessage,
    Answer,
    Call,
    CallError,
    Emit,
    Execute,
    Offer,
    OfferedTool,
    RunTool,
    ToolFailure,
)
from l02.bus.wire.agent.values import State, from_bytes, to_json

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
    signals: Mapping[str, Any] | None = None,
    state: Mapping[str, Any] | None = None,
) -> Outcome:
    """Runs the agent's handler once.

    `tools` stand in for MCP tools: functions, sync or async, that take the arguments by name; what one raises, the
    handler sees as a `ToolError` with code E2001 (or the `ToolError` itself). The agent's own tools run for real
    unless they are named there. `signals` are the payloads already sent; a wait for another one times out. Sleeps
    end at once, checkpoints are not kept, and random numbers are always the same. Raises what the handler raises.
    """
    node = _FakeNode(agent, tools or {}, signals or {})
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
    signals: Mapping[str, Any]
    calls: list[Call] = field(default_factory=list)
    emitted: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.execution: Execution | None = None
        self._now = START
        self._random = random.Random(0)  # noqa: S311  the same numbers in each test run
        self._answers: set[asyncio.Task[None]] = set()

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
            answer = Answer(call.execution_id, call.call, True, result=result)
        except Exception as error:
            failed = error if isinstance(error, ToolError) else _failed(f"{type(error).__name__}: {error}")
            failure = CallError(failed.code, failed.name, failed.message, failed.content)
            answer = Answer(call.execution_id, call.call, False, error=failure)
        self.execution.answer(answer)
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
        return None

    def _offer(self) -> Offer:
        own = [
            OfferedTool(tool.name, tool.description, tool.schema, idempotent=tool.idempotent)
            for tool in self.agent.descriptions()
        ]
        names = {tool.name for tool in own}
        others = [OfferedTool(name, "", {"type": "object"}) for name in self.tools if name not in names]
        return Offer((*own, *others))

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
