"""One run of an execution on one process: recorded answers first, in their order, then the world.

After a crash the same execution has another run. Its calls are compared with the journal: a different call at a
recorded number is E2116. A call that was under way on the node's side when the process died goes on meanwhile, and its
answer is given when the new process asks for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from msgspec import UNSET

from l02.bus.background.cancelling import end
from l02.bus.wire.agent.divergence import REPLAY_STALL_SECONDS, ended_early, not_made, request_of
from l02.bus.wire.agent.lines import ProtocolError
from l02.bus.wire.agent.protocol import (
    AgentMessage,
    Begin,
    Call,
    CallError,
    Complete,
    Diverged,
    Emit,
    Execute,
    Fail,
    RunTool,
    Steps,
    TooHeavy,
    ToolResult,
)
from l02.bus.wire.agent.protocol import ToolFailure as ProtocolToolFailure
from l02.domain.agent.execution import JournalEntry
from l02.domain.agent.state import AgentState
from l02.domain.errors import ErrorCode, Failure
from l02.domain.values import require_shallow
from l02.domain.weight import WEIGHT_IN_WORDS
from l02.handlers.executor.effects import Effects
from l02.handlers.executor.inbox import Inbox
from l02.handlers.executor.journal.answers import Answers
from l02.handlers.executor.journal.live_calls import LiveCall, diverged
from l02.handlers.executor.journal.own_steps import own_steps, own_tools, record, require_own, split, told_again
from l02.handlers.executor.journal.text import Text
from l02.handlers.executor.tools.calling import LocalToolLost, ToolBox
from l02.handlers.executor.work import Work, checkpoints_awaited
from l02.handlers.sandbox.channel import ChannelClosed
from l02.handlers.sandbox.processes import AgentProcess
from l02.handlers.tool_servers import ToolFailed

_MOST_OPEN_CALLS = 2000
_MOST_OPEN_BYTES = 32 * 1024 * 1024
"""Of memory, for the calls that were not answered yet, or one."""
_MOST_UNTOLD = 10_000
"""Numbers that an agent has given away, and has not said for what."""
_GRACE_SECONDS = 1.0
"""Beyond its timeout, which the agent itself keeps to, a tool of the agent's own may keep it from answering."""


class Run:
    """Feeds one process with one execution. `run` returns its end: Complete, Fail, or a Complete that is too heavy."""

    def __init__(self, work: Work, effects: Effects, state: AgentState, process: AgentProcess, tools: ToolBox) -> None:
        """`state` is all that is known here of the agent, on record."""
        execution = state.executions[work.execution_id]
        self._work = work
        self._effects = effects
        self._execution = execution
        self._process = process
        self._limits = state.specification.executor
        self._tools = tools
        self._inbox = Inbox()
        self._steps, answered = split(execution.journal, process.hello)
        self._answered = len(answered)
        work.live.forget_answered()
        work.answers = Answers(len(execution.journal), answered, checkpoints_awaited(state, execution))
        self._numbers = {entry.call for entry in self._steps if entry.kind != "thread"}
        self._threads = {entry.call for entry in self._steps if entry.kind == "thread"}
        self._text = Text(execution.journal)
        self._local: dict[int, asyncio.Future[Any]] = {}
        self._giving: asyncio.Task[None] | None = None
        self._own_calls: dict[int, asyncio.Task[None]] = {}
        self._told_to_run: set[int] = set()
        self._open: dict[int, int] = {}
        """Calls that were not answered yet, and the bytes of memory that they take."""
        self._open_bytes = 0
        self._begun: dict[int, float] = {}
        self._own_tools = own_tools(process.hello)
        self._given = 0
        self._after = max((entry.after for entry in self._steps if entry.after is not UNSET), default=0)
        self.calls = max(self._numbers, default=0)
        self.answered_codes: set[str] = {_code_of(entry.result) for entry in self._steps if not entry.ok}
        """Codes of the calls that were answered as failed in this run: those the agent may fail with."""

    async def run(self, input: Any, state: dict[str, Any], inbox: Inbox) -> Complete | Fail | TooHeavy:
        """Until the agent completes or fails the execution.

        Raises Failure (E2116, E2004) when the execution must fail, ProtocolError when the process must, RecordRefused
        when it has to go on from what is on disk, and what `inbox` reports when the process is gone.
        """
        work, answers = self._work, self._work.answers
        self._inbox = inbox
        work.records.on_refused = inbox.report
        work.stream.begin_again()
        try:
            await self._begin_work(input, state)
            while True:
                await work.records.room()
                message = await self._next()
                match message:
                    case Steps() if self._process.hello.records_steps:
                        await self._on_steps(message)
                    case Begin() if self._process.hello.records_steps:
                        self._on_begin(message)
                    case Call():
                        await self._on_call(message)
                    case ToolResult():
                        self._on_tool_result(message)
                    case Emit():
                        if self._limits.enable_streaming:
                            self._text.add(message.delta)
                        await work.may_leave()
                        await work.stream.emit(message.n, message.delta)
                    case TooHeavy(type="tool_result"):
                        self._on_tool_result(_too_heavy_result(message))
                    case TooHeavy(type="call"):
                        raise Failure(ErrorCode.PAYLOAD_TOO_LARGE, f"call {message.call} holds {WEIGHT_IN_WORDS}")
                    case Diverged() if self._process.hello.records_steps:
                        raise Failure(ErrorCode.NONDETERMINISTIC_AGENT, message.message)
                    case Complete() | Fail() | TooHeavy(type="complete"):
                        if answers.missing is not None:
                            text = ended_early(self.calls, answers.missing.call, answers.missing.kind)
                            raise Failure(ErrorCode.NONDETERMINISTIC_AGENT, text)
                        self._text.require_all()
                        return message
                    case _:
                        raise ProtocolError(f"{type(message).__name__} does not belong into an execution")
        finally:
            self._let_go_of_own_tools()
            if self._giving is not None:
                await end(self._giving)

    async def _begin_work(self, input: Any, state: dict[str, Any]) -> None:
        send, execution_id = self._process.channel.send, self._work.execution_id
        if not self._process.hello.records_steps:
            await send(Execute(execution_id=execution_id, input=input, state=state))
            return
        own = own_steps(self._limits, len(self._steps), self._answered, self._work.input_tokens)
        await send(Execute(execution_id=execution_id, input=input, state=state, own=own))
        async for recorded in told_again(self._work.node.bus, execution_id, self._steps):
            await send(recorded)

    async def _next(self) -> AgentMessage | TooHeavy:
        """The agent's next message; one that waits in vain for a recorded call to be made has diverged."""
        answers = self._work.answers
        # A recorded thread may take its time, and what comes after it; nothing else has to wait.
        is_stalled = answers.is_asked and answers.missing is not None and not self._threads
        if not is_stalled:
            return self._of_this_execution(await self._inbox.receive())
        patience, stopped = REPLAY_STALL_SECONDS, self._process.stopped_seconds
        while patience > 0:
            try:
                async with asyncio.timeout(patience):
                    return self._of_this_execution(await self._inbox.receive())
            except TimeoutError:
                patience, stopped = self._process.stopped_seconds - stopped, self._process.stopped_seconds
        missing = answers.missing
        assert missing is not None
        raise Failure(ErrorCode.NONDETERMINISTIC_AGENT, not_made(missing.call, missing.kind))

    def _of_this_execution(self, message: AgentMessage | TooHeavy) -> AgentMessage | TooHeavy:
        execution_id = getattr(message, "execution_id", self._work.execution_id)
        if execution_id != self._work.execution_id:
            raise ProtocolError(f"a message names execution {execution_id!r}, which is not the one under way")
        return message

    async def _on_call(self, call: Call) -> None:
        self._work.records.require_space()
        self._check_number(call)
        self._count_open(call)
        entry = self._execution.journal.answer(call.call)
        if entry is not None:
            recorded = await self._effects.recorded_request(entry)
            if entry.after is not UNSET or entry.kind != call.kind or recorded != request_of(call):
                diverged(call, entry.kind, recorded)
            self._text.require(call.call, entry.text)
            self._effects.replayed(call, entry)
        else:
            live = self._work.live.get(call) or self._start(call)
            self._text.require(call.call, live.text)
            live.task.add_done_callback(self._tell_failure)
            if self._tools.is_local(call.tool):
                self._own_calls[call.call] = live.task
                live.task.add_done_callback(lambda _: self._own_calls.pop(call.call))
        if self._giving is None:
            self._giving = asyncio.create_task(self._give())
        self._work.answers.ask(call.call)

    def _start(self, call: Call) -> LiveCall:
        perform = partial(self._effects.perform, call, self._tools, self._run_local(call))
        return self._work.live.start(call, self._text.said, perform)

    def _check_number(self, call: Call) -> None:
        if not self._process.hello.records_steps:
            if call.call != self.calls + 1:
                raise ProtocolError(f"call {call.call} follows call {self.calls}; calls are numbered without gaps")
            self.calls = call.call
        else:
            self._take_number(call.call)
        require_shallow(request_of(call), "$.arguments")

    def _count_open(self, call: Call) -> None:
        self._open_bytes += self._inbox.footprint
        self._open[call.call] = self._inbox.footprint
        is_heavy = len(self._open) > 1 and self._open_bytes > _MOST_OPEN_BYTES
        if is_heavy or len(self._open) > _MOST_OPEN_CALLS:
            raise Failure(
                ErrorCode.PAYLOAD_TOO_LARGE,
                f"{len(self._open):,} calls that take {self._open_bytes:,} bytes of memory are open; at most "
                f"{_MOST_OPEN_CALLS:,} and {_MOST_OPEN_BYTES:,} bytes may be: wait for some before the next",
            )

    def _take_number(self, number: int) -> None:
        if number in self._numbers:
            raise ProtocolError(f"call {number} was made already")
        self._require_near(number, self._numbers)
        self._numbers.add(number)
        self.calls = max(self.calls, number)

    def _require_near(self, number: int, known: set[int]) -> None:
        if number > len(known) + _MOST_UNTOLD:
            raise ProtocolError(f"number {number} comes when {len(known)} are known; numbers follow one another")

    def _on_begin(self, begin: Begin) -> None:
        if begin.tool not in self._own_tools or begin.call in self._numbers:
            raise ProtocolError(f"call {begin.call} of {begin.tool!r} is none that the agent can begin by itself")
        self._require_near(begin.call, self._numbers)
        self._begun[begin.call] = asyncio.get_running_loop().time()

    def _tell_failure(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self._inbox.report(error)

    async def _on_steps(self, message: Steps) -> None:
        self._work.records.require_space()
        for step in message.steps:
            require_own(step, self._own_tools, self._given, self._after)
            self._after = step.after
            if step.kind == "thread":
                self._require_near(step.call, self._threads)
                if step.call in self._threads:
                    raise ProtocolError(f"thread {step.call} has ended already")
                self._threads.add(step.call)
            else:
                self._take_number(step.call)
                self._begun.pop(step.call, None)
            if not step.ok:
                self.answered_codes.add(_code_of(step.result))
        await record(self._work, message.steps, self._process.incarnation, self._text.said)

    async def _give(self) -> None:
        """Give the answers that are due, in the order of the journal."""
        try:
            while True:
                call, what = await self._work.answers.next()
                result = await self._effects.recorded(what) if isinstance(what, JournalEntry) else what
                answer = result.answer(self._work.execution_id, call)
                if isinstance(answer.error, CallError):
                    self.answered_codes.add(answer.error.code)
                self._given += 1
                await self._process.channel.send(answer)
                self._open_bytes -= self._open.pop(call)
        except Exception as error:
            self._inbox.report(error)

    def _run_local(self, call: Call) -> Callable[[str, dict[str, Any]], Awaitable[Any]]:
        async def run(tool: str, arguments: dict[str, Any]) -> Any:
            future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            self._local[call.call] = future
            self._told_to_run.add(call.call)
            message = RunTool(execution_id=self._work.execution_id, call=call.call, tool=tool, arguments=arguments)
            try:
                await self._process.channel.send(message)
                return await future
            except ChannelClosed as error:
                raise LocalToolLost from error
            finally:
                self._local.pop(call.call, None)

        return run

    def _let_go_of_own_tools(self) -> None:
        """Its process will not answer any more; what it has not been told yet, the next one will be."""
        for call, task in self._own_calls.items():
            if call not in self._told_to_run:
                task.cancel()
        for future in self._local.values():
            if not future.done():
                future.set_exception(LocalToolLost())

    @property
    def runs_own_tool(self) -> bool:
        """Whether the process runs a tool of its own, and has not had the time for it that a tool has."""
        longest = asyncio.get_running_loop().time() - self._limits.tool_timeout_seconds - _GRACE_SECONDS
        begun = any(began > longest for began in self._begun.values())
        return begun or bool(self._local)

    def _on_tool_result(self, message: ToolResult) -> None:
        future = self._local.get(message.call)
        if future is None and message.call not in self._told_to_run:
            raise ProtocolError(f"a tool_result for call {message.call}, which is no tool of the agent's")
        if future is None or future.done():  # it came too late
            return
        if message.ok:
            future.set_result(message.result)
        else:
            assert message.error
            future.set_exception(ToolFailed(message.error.message))


def _code_of(failure: Any) -> str:
    return str(failure["code"])


def _too_heavy_result(message: TooHeavy) -> ToolResult:
    error = ProtocolToolFailure(f"the result holds {WEIGHT_IN_WORDS}")
    return ToolResult(execution_id=message.execution_id, call=message.call, ok=False, error=error)
