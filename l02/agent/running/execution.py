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
from functools import partial
from typing import Any, TypeVar, cast

from msgspec import UNSET

from l02.agent.context import Context, ToolError
from l02.agent.definition import Agent, Handler
from l02.agent.errors import describe_error, leaves_of
from l02.agent.running.intake import Intake
from l02.agent.running.outbox import Outbox
from l02.agent.running.own_steps import Divergence, OwnWork
from l02.bus.wire.agent.divergence import ended_early
from l02.bus.wire.agent.lines import ProtocolError, encode
from l02.bus.wire.agent.protocol import Answer, Call, CallError, CallKind, Complete, Diverged, Emit, Execute, Fail, Step
from l02.bus.wire.agent.values import State, to_json

LEFTOVER_GRACE = 1.0
"""Seconds that tasks which a handler left behind get for their `finally` blocks."""

_task_numbers: ContextVar[itertools.count[int]] = ContextVar("task_numbers")
_T = TypeVar("_T")
_execution: ContextVar[Execution] = ContextVar("execution")


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


def thread_in_order(future: asyncio.Future[_T]) -> asyncio.Future[_T]:
    """What a thread that was just started comes to; one that a handler has started, when it is its turn."""
    execution = _execution.get(None)
    return future if execution is None else execution.thread_in_order(future)


class Execution:
    """Runs the handler once. `send` writes its messages; `settle` returns when all that could run has run."""

    def __init__(
        self,
        agent: Agent,
        message: Execute,
        send: Callable[..., None],
        settle: Callable[[], Awaitable[None]],
    ) -> None:
        if agent.handler is None:
            raise TypeError(f"{agent.name} has no handler: decorate one with @agent.on_message")
        self.id = message.execution_id
        self.state = State(message.state)
        self._input = message.input
        self._handler: Handler = agent.handler
        self._context = Context(agent.name, self.id, self.state, self)
        self._outbox = Outbox(self.id, send)
        self._settle = settle
        self._issued = 0
        self._emitted = 0
        self._open: dict[int, tuple[CallKind, asyncio.Future[Any]]] = {}
        self._task: asyncio.Task[Any] | None = None
        self._stopped = False
        self._ended = False
        own = message.own
        self._missing = 0 if own is UNSET else own.recorded
        self._intake = Intake(0 if own is UNSET else own.answers)
        self._own: OwnWork | None = None
        if own is not UNSET:
            self._own = OwnWork(agent, self.id, own, self._intake, self._outbox, self._end_step, self._diverge)

    @property
    def is_ready(self) -> bool:
        """Whether all steps on record are known: then it can begin."""
        return self._missing == 0

    def remember(self, steps: list[Step]) -> None:
        """Steps on record. Raises `ProtocolError` for more than were announced."""
        if self._own is None or len(steps) > self._missing:
            raise ProtocolError("more steps are on record than were announced")
        self._missing -= len(steps)
        self._own.remember(steps)

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
        missing = self._intake.first_on_record
        if missing is not None:
            self._diverge(ended_early(self._issued, missing.call, missing.kind))
        return None if self._stopped else result

    def finish(self, result: Complete | Fail | None) -> None:
        """Says how it ended, after all that was not said yet, and stops its own tools."""
        if result is not None:
            self._outbox.send(result)
        self._close()

    async def output(self) -> Any:
        """The handler's output. Raises what it raises."""
        _task_numbers.set(itertools.count(1))
        _execution.set(self)
        self._task = asyncio.current_task()
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
            self._task = None

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
        call = Call(self.id, number, kind, **fields)
        try:
            if self._own is None or not self._own.takes(call):
                self._outbox.send(call)
        except ProtocolError as error:
            raise ValueError(f"the call is too large: {error}") from error
        except Divergence as error:
            self._diverge(str(error))
            raise asyncio.CancelledError("the execution has diverged") from error
        self._issued = number
        self._open[number] = (kind, answer)
        return await answer

    def emit(self, delta: str) -> None:
        """See `Context`."""
        self._check_open()
        if delta:
            self._outbox.send(Emit(self.id, self._emitted, delta))
            self._emitted += 1

    def answer(self, message: Answer) -> None:
        """The answer to a call has come; it is taken in when it is its turn."""
        self._intake.answer(partial(self._take_answer, message))

    def thread_in_order(self, future: asyncio.Future[_T]) -> asyncio.Future[_T]:
        """What a thread of the handler comes to, when it is its turn."""
        return future if self._own is None or self._stopped else self._own.in_order(future)

    def take_in(self) -> bool:
        """Nothing can run: lets one thing go on that waited for that. False if there is none.

        Raises `ProtocolError` for the answer to a call that was never issued, or answered before.
        """
        return self._intake.take_in() if self._own is None else self._own.take_in()

    def stop(self) -> list[asyncio.Future[Any]]:
        """From now on nothing is sent: what is done while stopping is not part of the execution's record.

        Own tools are cancelled; those that are to end.
        """
        self._stopped = True
        return self._close()

    def _close(self) -> list[asyncio.Future[Any]]:
        self._outbox.close()
        return [] if self._own is None else self._own.close()

    def _take_answer(self, message: Answer) -> None:
        if message.call not in self._open:
            raise ProtocolError(f"there is no open call {message.call}")
        kind, waiting = self._open.pop(message.call)
        if self._own is not None and kind == "tool":
            self._own.answered(message)
        if isinstance(message.error, CallError):
            error = message.error
            content = None if error.content is UNSET else error.content
            _give(waiting, ToolError(error.code, error.name, error.message, content))
        else:
            _give(waiting, message.result)

    def _end_step(self, call: int, result: Any) -> None:
        _give(self._open.pop(call)[1], result)

    def _diverge(self, message: str) -> None:
        self._outbox.send(Diverged(self.id, message))
        self.stop()
        if self._task is not None:
            self._task.cancel()

    def _check_open(self) -> None:
        if self._stopped:
            raise asyncio.CancelledError("the agent is shutting down")
        if self._ended:
            raise RuntimeError("this execution has ended; its ctx can no longer be used")


def _give(waiting: asyncio.Future[Any], result: Any) -> None:
    """The result of a call, or the `ToolError` that it ended with."""
    if waiting.done():  # the handler gave up waiting for it
        return
    if isinstance(result, ToolError):
        waiting.set_exception(result)
    else:
        waiting.set_result(result)


def _failure(execution_id: str, error: BaseException, handler: Handler) -> Fail:
    message = describe_error(error, cast(Callable[..., Any], handler))
    leaves = list(leaves_of(error))
    for leaf in leaves:
        traceback.clear_frames(leaf.__traceback__)  # lets go of what they hold: the memory may be needed
    failed_calls = [leaf for leaf in leaves if isinstance(leaf, ToolError)]
    if not failed_calls:
        return Fail(execution_id, message)
    return Fail(execution_id, message, _text(failed_calls[0].code), _text(failed_calls[0].name))


def _text(given: object) -> str:
    """Whoever raises a `ToolError` of their own may have given it anything."""
    return str(given).encode(errors="replace").decode()
