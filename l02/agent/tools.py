"""Runs an agent's own tools, beside the handler and outside of its record.

A sync tool runs in a thread, so that one which computes for minutes leaves the socket served. The threads are
daemons: one that never ends does not keep the process from ending, as those of asyncio's executor would.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import traceback
from collections.abc import Callable
from typing import Any

from l02.agent.definition import Agent
from l02.agent.execution import describe_error
from l02.bus.wire.agent.lines import ProtocolError, encode
from l02.bus.wire.agent.protocol import RunTool, ToolFailure, ToolResult
from l02.bus.wire.agent.values import to_json


async def run_tool(agent: Agent, message: RunTool) -> ToolResult:
    """The outcome of one of the agent's tools. Never raises but for its own cancellation."""
    tool = agent.tools.get(message.tool)
    if tool is None:
        return _failed(message, f"{agent.name} has no tool {message.tool!r}; it has: {', '.join(agent.tools)}")
    try:
        arguments = tool.convert(message.arguments)
    except ValueError as error:
        return _failed(message, str(error))
    try:
        value = await (tool.function(**arguments) if tool.is_async else _in_thread(tool.function, arguments))
        done = ToolResult(message.execution_id, message.call, True, result=to_json(value, f"the result of {tool.name}"))
        encode(done)
        return done
    except ProtocolError as error:
        return _failed(message, f"the result of {tool.name} is too large: {error}")
    except BaseException as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise
        traceback.print_exception(error)
        return _failed(message, describe_error(error, tool.function))


def _failed(message: RunTool, why: str) -> ToolResult:
    return ToolResult(message.execution_id, message.call, False, error=ToolFailure(why))


async def _in_thread(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()

    def finish(value: Any, error: BaseException | None) -> None:
        if done.done():  # cancelled while the thread ran on
            return
        if error is None:
            done.set_result(value)
        else:
            done.set_exception(error)

    def work() -> None:
        value: Any = None
        error: BaseException | None = None
        try:
            value = context.run(function, **arguments)
        except StopIteration as stop:  # a future cannot carry it
            error = RuntimeError(f"StopIteration: {stop}")
        except BaseException as raised:
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(finish, value, error)

    context = contextvars.copy_context()
    threading.Thread(target=work, name=function.__name__, daemon=True).start()
    return await done
