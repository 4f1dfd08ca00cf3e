"""One run of a handler: numbers its calls, hands it their answers, and says how it ended.

It knows no socket, so that a test of an agent (`l02.agent.testing`) runs the same code as a node's agent.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import traceback
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from msgspec import UNSET

from l02.agent.context import Context, ToolError
from l02.agent.definition import Agent, Handler
from l02.bus.wire.agent.lines import ProtocolError, encode
from l02.bus.wire.agent.protocol import AgentMessage, Answer, Call, CallError, CallKind, Complete, Emit, Execute, Fail
from l02.bus.wire.agent.values import State, to_json

LEFTOVER_GRACE = 1.0
"""Seconds that tasks which a handler left behind get for their `finally` blocks."""

MAX_ERROR_TEXT = 8192
"""Characters of an error's text that are passed on."""

_SDK = str(Path(__file__).parent)
_task_numbers: ContextVar[itertools.count[int]] = ContextVar("task_numbers")


class _NumberedTask(asyncio.Task[Any]):
    """A task of a handler. Its hash is its number in the execution, not its address.

    So sets of tasks (what `asyncio.wait` returns, what a TaskGroup cancels) have the same order when the execution
    is run again in another process.
    """

    _number = 0

    def __hash__(self) -> int:
        return self._number


def numbered_tasks(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
    """A task factory: the tasks that handlers start are numbered."""
    numbers = _task_numbers.get(None)
    if numbers is None:
        return asyncio.Task(coro, loop=loop, **options)
    # The number comes first: the base class's constructor puts the new task into a set.
    task = _NumberedTask.__new__(_NumberedTask)
    task._number = next(numbers)
    task.__init__(coro, loop=loop, **options)  # type: ignore[misc]
    return task


class Execution:
    """Runs the handler once. `send` takes its messages; `settle` returns when all that could run has run."""

    def __init__(
        self,
        agent: Agent,
        message: Execute,
        send: Callable[[AgentMessage], None],
        settle: Callable[[], Awaitable[None]],
    ) -> None:
        if agent.handler is None:
            raise TypeError(f"{agent.name} has no handler: decorate one with @agent.on_message")
        self.id = message.execution_id
        self.state = State(message.state)
        self._input = message.input
        self._handler: Handler = agent.handler
        self._context = Context(agent.name, self.id, self.state, self)
        self._send = send
        self._settle = settle
        self._issued = 0
        self._emitted = 0
        self._open: dict[int, asyncio.Future[Any]] = {}
        self._stopped = False
        self._ended = False

    async def run(self) -> Complete | Fail | None:
        """Runs the handler to its end. None when it was stopped: then nothing is to be said about it."""
        try:
            output = await self.output()
            result: Complete | Fail = Complete(self.id, to_json(output, "the output"), self.state.changes())
            encode(result)  # an output that is too large fails the execution, not the process
        except BaseException as error:
            if not self._stopped and not isinstance(error, asyncio.CancelledError):
                traceback.print_exception(error)
            result = _failure(self.id, error, self._handler)
        return None if self._stopped else result

    async def output(self) -> Any:
        """The handler's output. Raises what it raises."""
        _task_numbers.set(itertools.count(1))
        try:
            if inspect.isasyncgenfunction(self._handler):
                return await self._stream()
            return await cast(Awaitable[Any], self._handler(self._context, self._input))
        finally:
            self._ended = True
            left = [task for task in asyncio.all_tasks() if isinstance(task, _NumberedTask)]
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left, timeout=LEFTOVER_GRACE)

    async def _stream(self) -> str:
        pieces: list[str] = []
        handler = cast(Any, self._handler)
        async with aclosing(handler(self._context, self._input)) as generator:
            async for piece in generator:
                if not isinstance(piece, str):
                    raise TypeError(
                        f"the handler yielded {type(piece).__name__}: it yields text, which is streamed; "
                        "to give another value, return it from a function without `yield`"
                    )
                self.emit(piece)
                pieces.append(piece)
                await self._settle()
        return "".join(pieces)

    async def call(self, kind: CallKind, **fields: Any) -> Any:
        """See `Context`."""
        self._check_open()
        if "arguments" in fields:
            tool = fields["tool"]
            fields["arguments"] = {
                name: to_json(value, f"{tool}'s argument {name!r}") for name, value in fields["arguments"].items()
            }
        number = self._issued + 1
        answer = asyncio.get_running_loop().create_future()
        try:
            self._send(Call(self.id, number, kind, **fields))
        except ProtocolError as error:
            raise ValueError(f"the call is too large: {error}") from error
        self._issued = number
        self._open[number] = answer
        return await answer

    def emit(self, delta: str) -> None:
        """See `Context`."""
        self._check_open()
        if delta:
            self._send(Emit(self.id, self._emitted, delta))
            self._emitted += 1

    def answer(self, message: Answer) -> None:
        """Ends a call. Raises `ProtocolError` for a call that was never issued, or answered before."""
        waiting = self._open.pop(message.call, None)
        if waiting is None:
            raise ProtocolError(f"there is no open call {message.call}")
        if waiting.done():  # the handler gave up waiting for it
            return
        if isinstance(message.error, CallError):
            error = message.error
            content = None if error.content is UNSET else error.content
            waiting.set_exception(ToolError(error.code, error.name, error.message, content))
        else:
            waiting.set_result(message.result)

    def stop(self) -> None:
        """From now on nothing is sent: what is done while stopping is not part of the execution's record."""
        self._stopped = True

    def _check_open(self) -> None:
        if self._stopped:
            raise asyncio.CancelledError("the agent is shutting down")
        if self._ended:
            raise RuntimeError("this execution has ended; its ctx can no longer be used")


def describe_error(error: BaseException, function: Callable[..., Any]) -> str:
    """`<type>: <text> (<file>:<line>)`, the line being the last one in the function's own file."""
    place = _place(error.__traceback__, function.__code__.co_filename)
    if isinstance(error, MemoryError):
        text = "MemoryError: the agent reached its memory limit (resource_limits.memory)"
    elif isinstance(error, BaseExceptionGroup):
        leaves = "; ".join(describe_error(leaf, function) for leaf in _leaves(error))
        text = f"{type(error).__name__}: {leaves[:MAX_ERROR_TEXT]}"
    else:
        detail = _detail(error)
        text = f"{type(error).__name__}: {detail}" if detail else type(error).__name__
    return f"{text} ({place})" if place else text


def _failure(execution_id: str, error: BaseException, handler: Handler) -> Fail:
    message = describe_error(error, cast(Callable[..., Any], handler))
    leaves = list(_leaves(error))
    for leaf in leaves:
        traceback.clear_frames(leaf.__traceback__)  # lets go of what they hold: the memory may be needed
    failed_calls = [leaf for leaf in leaves if isinstance(leaf, ToolError)]
    if not failed_calls:
        return Fail(execution_id, message)
    return Fail(execution_id, message, _text(failed_calls[0].code), _text(failed_calls[0].name))


def _text(given: object) -> str:
    """Whoever raises a `ToolError` of their own may have given it anything."""
    return str(given).encode(errors="replace").decode()


def _detail(error: BaseException) -> str:
    """The error's own text, as what fits into a message: valid Unicode, of a bounded length."""
    try:
        text = str(error)
    except Exception as problem:  # an author's __str__ may do anything
        text = f"<its text cannot be made: {type(problem).__name__}>"
    return text[:MAX_ERROR_TEXT].encode(errors="backslashreplace").decode()


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]


def _place(trace: TracebackType | None, own_file: str) -> str | None:
    """File and line of the last frame in the author's own file, else of the last one outside of the SDK."""
    own = other = None
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        place = f"{Path(file).name}:{trace.tb_lineno}"
        if file == own_file:
            own = place
        elif not file.startswith(_SDK):
            other = place
        trace = trace.tb_next
    return own or other
