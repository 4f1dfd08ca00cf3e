"""Runs an agent's own tools, beside the handler and outside of its record.

A sync tool runs in a thread, so that one which computes for minutes leaves the socket served.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any

import msgspec

from l02.agent.definition import Agent, Tool
from l02.agent.errors import describe_error
from l02.agent.threads import run_in_thread
from l02.bus.wire.agent.lines import ProtocolError, encode
from l02.bus.wire.agent.protocol import RunTool, ToolFailure, ToolResult
from l02.bus.wire.agent.values import to_json


class ToolFailed(Exception):
    """An own tool gave no result; the message says why."""


def start(tool: Tool, arguments: dict[str, Any], context: Context) -> asyncio.Future[msgspec.Raw]:
    """Its result as JSON, once it has one. Whatever the tool raises, this ends with `ToolFailed`, or is cancelled."""
    loop = asyncio.get_running_loop()
    if tool.is_async:
        return asyncio.Task(_await(tool, arguments), loop=loop, context=context)
    done: asyncio.Future[msgspec.Raw] = loop.create_future()

    def work() -> Callable[[], None]:
        outcome: msgspec.Raw | ToolFailed
        try:
            outcome = _result(tool, context.run(tool.function, **arguments))
        except BaseException as error:
            outcome = _failure(tool, error)
        return lambda: None if loop.is_closed() else _tell(loop, done, outcome)

    try:
        run_in_thread(work)
    except RuntimeError as error:
        done.set_exception(_failure(tool, error))
    return done


async def run_tool(agent: Agent, message: RunTool) -> ToolResult:
    """The outcome of one of the agent's tools. Never raises but for its own cancellation."""
    tool = agent.tools.get(message.tool)
    if tool is None:
        return _failed(message, f"{agent.name} has no tool {message.tool!r}; it has: {', '.join(agent.tools)}")
    try:
        result = await start(tool, tool.convert(message.arguments), copy_context())
        done = ToolResult(message.execution_id, message.call, True, result=result)
        encode(done)
        return done
    except (ValueError, ToolFailed) as error:
        return _failed(message, str(error))
    except ProtocolError as error:
        return _failed(message, f"the result of {tool.name} is too large: {error}")


def _failed(message: RunTool, why: str) -> ToolResult:
    return ToolResult(message.execution_id, message.call, False, error=ToolFailure(why))


async def _await(tool: Tool, arguments: dict[str, Any]) -> msgspec.Raw:
    try:
        return _result(tool, await tool.function(**arguments))
    except BaseException as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise
        raise _failure(tool, error) from None


def _result(tool: Tool, value: Any) -> msgspec.Raw:
    return to_json(value, f"the result of {tool.name}")


def _failure(tool: Tool, error: BaseException) -> ToolFailed:
    traceback.print_exception(error)
    return ToolFailed(describe_error(error, tool.function))


def _tell(
    loop: asyncio.AbstractEventLoop, done: asyncio.Future[msgspec.Raw], outcome: msgspec.Raw | ToolFailed
) -> None:
    loop.call_soon_threadsafe(_finish, done, outcome)


def _finish(done: asyncio.Future[msgspec.Raw], outcome: msgspec.Raw | ToolFailed) -> None:
    if done.done():  # cancelled while the thread ran on
        return
    if isinstance(outcome, ToolFailed):
        done.set_exception(outcome)
    else:
        done.set_result(outcome)
