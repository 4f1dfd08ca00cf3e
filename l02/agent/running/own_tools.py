"""Own tools that are run without asking the node: so many at once, each bounded in time, and tried again if it fails.

Written with callbacks, so that a tool costs little more than its thread, and one that does not heed its cancellation
holds up nothing.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from l02.agent.definition import Tool
from l02.agent.tools import ToolFailed, ToolRun
from l02.bus.wire.agent.protocol import OwnSteps
from l02.bus.wire.agent.texts import cut
from l02.domain.errors import ErrorCode, Failure

_FIRST_RETRY_SECONDS = 0.2
_LONGEST_RETRY_SECONDS = 30.0
_QUICK_SECONDS = 0.002
"""A tool that runs in a thread and has ended by then is told of with its result alone: to tell costs as much as it."""

Done = Callable[[msgspec.Raw | Failure], None]
"""Takes the result as JSON, or why there is none."""


class OwnTools:
    """Those of one execution. `begin` is told the call and the tool before it runs for long."""

    def __init__(self, limits: OwnSteps, begin: Callable[[int, str], None]) -> None:
        self._limits = limits
        self._begin = begin
        self._free = limits.max_concurrent_tools
        self._waiting: deque[Callable[[], None]] = deque()
        self._runs: set[ToolRun] = set()
        self._context = contextvars.copy_context()
        """Of the process, not of a handler: what a tool does is no part of the execution's order."""
        self._closed = False

    def start(self, call: int, tool: Tool, arguments: bytes, done: Done) -> None:
        """Run it when it is its turn; `done` is told once, later, what came of it."""
        self._when_free(partial(self._attempt, call, tool, arguments, 1, done))

    def cancel(self) -> list[asyncio.Future[Any]]:
        """Run no more; nobody is told of any. Those that still are to end."""
        self._closed = True
        self._waiting.clear()
        for run in self._runs:
            run.cancel()
        return [run.task for run in self._runs if run.task is not None]

    def _when_free(self, attempt: Callable[[], None]) -> None:
        if self._closed:
            return
        if self._free:
            self._free -= 1
            attempt()
        else:
            self._waiting.append(attempt)

    def _leave(self) -> None:
        self._free += 1
        if self._waiting:
            self._when_free(self._waiting.popleft())

    def _attempt(self, call: int, tool: Tool, arguments: bytes, attempt: int, done: Done) -> None:
        """Have it run now. What it is given is its alone, as a tool may change that."""
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle

        def end(result: msgspec.Raw | Failure, is_final: bool) -> None:
            if self._closed:
                return
            self._leave()
            if is_final or attempt > self._limits.max_tool_retries:
                done(result)
                return
            again = partial(self._attempt, call, tool, arguments, attempt + 1, done)
            wait = min(_FIRST_RETRY_SECONDS * 2 ** (attempt - 1), _LONGEST_RETRY_SECONDS)
            loop.call_later(wait, self._when_free, again, context=self._context)

        def on_end(outcome: msgspec.Raw | ToolFailed) -> None:
            timer.cancel()
            self._runs.discard(run)
            if isinstance(outcome, ToolFailed):
                why = cut(f"tool {tool.name!r} failed: {outcome.why}")
                end(Failure(ErrorCode.TOOL_INVOCATION_FAILED, why), is_final=False)
            else:
                end(outcome, is_final=True)

        def tell() -> None:
            nonlocal timer
            self._begin(call, tool.name)
            timer = loop.call_later(self._limits.tool_timeout_seconds, time_out, context=self._context)

        def time_out() -> None:
            run.cancel()
            self._runs.discard(run)
            seconds = self._limits.tool_timeout_seconds
            text = f"tool {tool.name!r} did not answer within {seconds:g} s (tool_timeout_seconds)"
            end(Failure(ErrorCode.TOOL_TIMEOUT, text), is_final=False)

        try:
            fields = tool.convert(msgspec.json.decode(arguments))
        except ValueError as error:
            misfit = Failure(ErrorCode.TOOL_INVOCATION_FAILED, cut(str(error)))
            loop.call_soon(end, misfit, True, context=self._context)
            return
        if tool.is_async:  # it may keep the loop from telling
            tell()
        else:
            timer = loop.call_later(_QUICK_SECONDS, tell, context=self._context)
        run = ToolRun(tool, fields, self._context.copy(), on_end)
        self._runs.add(run)
