"""Runs an agent's own tools, beside the handler and outside of its record.

A sync tool runs in a thread, so that one which computes for minutes leaves the socket served.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any

import msgspec

from l02.agent.definition import Agent, Tool
from l02.agent.errors import describe_error
from l02.agent.running.threads import run_in_thread
from l02.bus.wire.agent.lines import ProtocolError, encode
from l02.bus.wire.agent.protocol import RunTool, ToolFailure, ToolResult
from l02.bus.wire.agent.values import to_json


@dataclass(frozen=True)
class ToolFailed:
    """An own tool gave no result."""

    why: str


class ToolRun:
    """A tool that runs. `done` is told once, in the loop, of its result as JSON or why there is none.

    Not so once it was cancelled. Whatever the tool raises is a `ToolFailed`.
    """

    def __init__(
        self,
        tool: Tool,
        arguments: dict[str, Any],
        context: Context,
        done: Callable[[msgspec.Raw | ToolFailed], None],
    ) -> None:
        self._done = done
        self._cancelled = False
        self.task: asyncio.Task[msgspec.Raw | ToolFailed] | None = None
        """Of an async tool: it has ended when this has."""
        loop = asyncio.get_running_loop()
        if tool.is_async:
            self.task = asyncio.Task(_await(tool, arguments), loop=loop, context=context)
            self.task.add_done_callback(self._end_task, context=context)
            return

        def work() -> Callable[[], None]:
            outcome: msgspec.Raw | ToolFailed
            try:
                outcome = _result(tool, context.run(tool.function, **arguments))
            except BaseException as error:
                outcome = _failure(tool, error)
            return lambda: _tell(loop, self._end, outcome)

        try:
            run_in_thread(work)
        except RuntimeError as error:
            loop.call_soon(self._end, _failure(tool, error), context=context)

    def cancel(self) -> None:
        """Nobody is told of it; a thread runs on, and a task gets to clean up."""
        if self.task is not None and not self._cancelled:
            self.task.cancel()
        self._cancelled = True

    def _end_task(self, task: asyncio.Task[msgspec.Raw | ToolFailed]) -> None:
        self._end(ToolFailed("CancelledError") if task.cancelled() else task.result())

    def _end(self, outcome: msgspec.Raw | ToolFailed) -> None:
        if not self._cancelled:
            self._done(outcome)


async def run_tool(agent: Agent, message: RunTool) -> ToolResult:
    """The outcome of one of the agent's tools. Never raises but for its own cancellation."""
    tool = agent.tools.get(message.tool)
    if tool is None:
        return _failed(message, f"{agent.name} has no tool {message.tool!r}; it has: {', '.join(agent.tools)}")
    try:
        arguments = tool.convert(message.arguments)
    except ValueError as error:
        return _failed(message, str(error))
    outcome: asyncio.Future[msgspec.Raw | ToolFailed] = asyncio.get_running_loop().create_future()
    run = ToolRun(tool, arguments, copy_context(), outcome.set_result)
    try:
        result = await outcome
    except asyncio.CancelledError:
        run.cancel()
        if run.task is not None:
            await asyncio.wait([run.task])
        raise
    if isinstance(result, ToolFailed):
        return _failed(message, result.why)
    done = ToolResult(message.execution_id, message.call, True, result=result)
    try:
        encode(done)
    except ProtocolError as error:
        return _failed(message, f"the result of {tool.name} is too large: {error}")
    return done


def _failed(message: RunTool, why: str) -> ToolResult:
    return ToolResult(message.execution_id, message.call, False, error=ToolFailure(why))


async def _await(tool: Tool, arguments: dict[str, Any]) -> msgspec.Raw | ToolFailed:
    try:
        return _result(tool, await tool.function(**arguments))
    except BaseException as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise
        return _failure(tool, error)


def _result(tool: Tool, value: Any) -> msgspec.Raw:
    return to_json(value, f"the result of {tool.name}")


def _failure(tool: Tool, error: BaseException) -> ToolFailed:
    traceback.print_exception(error)
    return ToolFailed(describe_error(error, tool.function))


def _tell(
    loop: asyncio.AbstractEventLoop, end: Callable[[msgspec.Raw | ToolFailed], None], outcome: msgspec.Raw | ToolFailed
) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(end, outcome)
