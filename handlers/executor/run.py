"""One run of an execution on one process: recorded answers first, in their order, then the world.

After a crash the same execution has another run. Its calls are compared with the journal: a different call at a
recorded number is E2116. A call that was under way on the node's side when the process died goes on meanwhile, and its
answer is given when the new process asks for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import msgspec

from l02.bus.wire.agent.lines import ProtocolError
from l02.bus.wire.agent.protocol import (
    AgentMessage,
    Call,
    CallError,
    Complete,
    Emit,
    Execute,
    Fail,
    RunTool,
    TooHeavy,
    ToolResult,
)
from l02.bus.wire.agent.protocol import ToolFailure as ProtocolToolFailure
from l02.bus.wire.agent.texts import cut
from l02.domain.agent.state import Journal, JournalEntry
from l02.domain.errors import ErrorCode, Failure
from l02.domain.values import require_shallow
from l02.domain.weight import WEIGHT_IN_WORDS
from l02.handlers.executor.effects import Effects, Result, request_of
from l02.handlers.executor.inbox import Inbox
from l02.handlers.executor.streaming import TokenStream
from l02.handlers.executor.tools import LocalToolLost, ToolBox
from l02.handlers.sandbox.channel import ChannelClosed
from l02.handlers.sandbox.processes import AgentProcess
from l02.handlers.tool_servers import ToolFailed

_REPLAY_STALL_SECONDS = 60.0
_SHOWN_BYTES = 1024


class LiveCalls:
    """Calls of an execution that are under way or done on this node; they outlive the agent's process."""

    def __init__(self) -> None:
        self._calls: dict[int, tuple[Any, asyncio.Task[Result]]] = {}

    def get(self, call: Call) -> asyncio.Task[Result] | None:
        """The call, if it is under way; Failure E2116 if another one is at its number."""
        if call.call not in self._calls:
            return None
        request, task = self._calls[call.call]
        if _is_lost(task):
            return None
        if request != request_of(call):
            _diverged(call, request)
        return task

    def __contains__(self, number: int) -> bool:
        return number in self._calls and not _is_lost(self._calls[number][1])

    def start(self, call: Call, act: Callable[[], Awaitable[Result]]) -> asyncio.Task[Result]:
        """Begin the call."""

        async def run() -> Result:
            return await act()

        task = asyncio.create_task(run())
        task.add_done_callback(_look_at_failure)
        self._calls[call.call] = (request_of(call), task)
        return task

    async def cancel(self) -> None:
        """Stop all of them."""
        tasks = [task for _, task in self._calls.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _look_at_failure(task: asyncio.Task[Result]) -> None:
    """Whoever asks for the call is told; if nobody does any more, asyncio shall not complain either."""
    if not task.cancelled():
        task.exception()


def _is_lost(task: asyncio.Task[Result]) -> bool:
    """Whether the call has ended without anyone knowing how, or was not made: the agent was to rest or to end."""
    return task.done() and (task.cancelled() or _was_not_made(task.exception()))


def _was_not_made(error: BaseException | None) -> bool:
    refused = isinstance(error, Failure) and error.code is ErrorCode.INVALID_STATE
    return refused or isinstance(error, LocalToolLost)


class Run:
    """Feeds one process with one execution. `run` returns its end: Complete, Fail, or a Complete that is too heavy."""

    def __init__(
        self,
        execution_id: str,
        journal: Journal,
        process: AgentProcess,
        tools: ToolBox,
        effects: Effects,
        stream: TokenStream,
        live: LiveCalls,
    ) -> None:
        self._execution_id = execution_id
        self._process = process
        self._tools = tools
        self._effects = effects
        self._stream = stream
        self._live = live
        self._recorded = {entry.call: entry for entry in journal}
        self._to_replay = deque(journal)
        self._asked: set[int] = set()
        self._replayed = asyncio.Event()
        self._local: dict[int, asyncio.Future[Any]] = {}
        self.calls = 0
        self.answered_codes: set[str] = set()
        """Codes of the calls that were answered as failed in this run: those the agent may fail with."""

    async def run(self, input: Any, state: dict[str, Any], inbox: Inbox) -> Complete | Fail | TooHeavy:
        """Until the agent completes or fails the execution.

        Raises Failure (E2116, E2004) when the execution must fail, ProtocolError when the process must, and what
        `inbox` reports when the process is gone.
        """
        self._stream.begin_again()
        await self._process.channel.send(Execute(execution_id=self._execution_id, input=input, state=state))
        answers: set[asyncio.Task[None]] = set()
        try:
            await self._replay()
            while True:
                message = await self._next(inbox)
                match message:
                    case Call():
                        self._check_number(message)
                        if message.call in self._recorded:
                            await self._on_recorded(message)
                        else:
                            answers.add(asyncio.create_task(self._answer(message, self._task_of(message), inbox)))
                    case ToolResult():
                        self._on_tool_result(message)
                    case Emit():
                        await self._stream.emit(message.n, message.delta)
                    case TooHeavy(type="tool_result"):
                        self._on_tool_result(_too_heavy_result(message))
                    case TooHeavy(type="call"):
                        raise Failure(ErrorCode.PAYLOAD_TOO_LARGE, f"call {message.call} holds {WEIGHT_IN_WORDS}")
                    case Complete() | Fail() | TooHeavy(type="complete"):
                        if self._to_replay:
                            _ended_early(self.calls, self._to_replay[0])
                        return message
                    case _:
                        raise ProtocolError(f"{type(message).__name__} does not belong into an execution")
        finally:
            for future in self._local.values():
                if not future.done():
                    future.set_exception(LocalToolLost())
            for task in answers:
                task.cancel()
            await asyncio.gather(*answers, return_exceptions=True)

    async def _next(self, inbox: Inbox) -> AgentMessage | TooHeavy:
        """The agent's next message; one that waits in vain for a recorded call to be made has diverged."""
        waiting = self._to_replay and self._asked
        try:
            async with asyncio.timeout(_REPLAY_STALL_SECONDS if waiting else None):
                message = await inbox.receive()
        except TimeoutError:
            missing = self._to_replay[0]
            raise Failure(
                ErrorCode.NONDETERMINISTIC_AGENT,
                f"call {missing.call} ({missing.kind}) was answered before others, and is not made this time",
            ) from None
        execution_id = getattr(message, "execution_id", self._execution_id)
        if execution_id != self._execution_id:
            raise ProtocolError(f"a message names execution {execution_id!r}, which is not the one under way")
        return message

    def _check_number(self, call: Call) -> None:
        if call.call != self.calls + 1:
            raise ProtocolError(f"call {call.call} follows call {self.calls}; calls are numbered without gaps")
        require_shallow(request_of(call), "$.arguments")
        self.calls = call.call

    async def _on_recorded(self, call: Call) -> None:
        entry = self._recorded[call.call]
        recorded = await self._effects.recorded_request(entry)
        if entry.kind != call.kind or recorded != request_of(call):
            _diverged(call, recorded)
        self._asked.add(call.call)
        await self._replay()

    async def _replay(self) -> None:
        """Give the recorded answers that are due: those asked for, in the order they were first given."""
        while self._to_replay and self._to_replay[0].call in self._asked:
            entry = self._to_replay.popleft()
            self._asked.discard(entry.call)
            result = await self._effects.recorded(entry)
            await self._give(entry.call, result)
        if not self._to_replay:
            self._replayed.set()

    def _task_of(self, call: Call) -> asyncio.Task[Result]:
        task = self._live.get(call)
        if task is None:
            task = self._live.start(call, lambda: self._effects.perform(call, self._tools, self._run_local(call)))
        return task

    async def _answer(self, call: Call, task: asyncio.Task[Result], inbox: Inbox) -> None:
        try:
            result = await asyncio.shield(task)
            await self._replayed.wait()
            await self._give(call.call, result)
        except Exception as error:
            await inbox.report(error)

    async def _give(self, call: int, result: Result) -> None:
        answer = result.answer(self._execution_id, call)
        if isinstance(answer.error, CallError):
            self.answered_codes.add(answer.error.code)
        await self._process.channel.send(answer)

    def _run_local(self, call: Call) -> Callable[[str, dict[str, Any]], Awaitable[Any]]:
        async def run(tool: str, arguments: dict[str, Any]) -> Any:
            future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            self._local[call.call] = future
            message = RunTool(execution_id=self._execution_id, call=call.call, tool=tool, arguments=arguments)
            try:
                await self._process.channel.send(message)
            except ChannelClosed as error:
                future.cancel()
                raise LocalToolLost from error
            return await future

        return run

    @property
    def runs_own_tool(self) -> bool:
        """Whether the process has been told to run a tool of its own, and has not answered yet."""
        return any(not future.done() for future in self._local.values())

    def _on_tool_result(self, message: ToolResult) -> None:
        future = self._local.get(message.call)
        if future is None:
            raise ProtocolError(f"a tool_result for call {message.call}, which is no tool of the agent's")
        if future.done():
            return
        if message.ok:
            future.set_result(message.result)
        else:
            assert message.error
            future.set_exception(ToolFailed(message.error.message))


def _too_heavy_result(message: TooHeavy) -> ToolResult:
    error = ProtocolToolFailure(f"the result holds {WEIGHT_IN_WORDS}")
    return ToolResult(execution_id=message.execution_id, call=message.call, ok=False, error=error)


def _diverged(call: Call, recorded: Any) -> NoReturn:
    raise Failure(
        ErrorCode.NONDETERMINISTIC_AGENT,
        f"call {call.call} was {_shown(recorded)}, and is {call.kind} {_shown(request_of(call))} this time; "
        "an agent must make the same calls when it gets the same answers (docs/agent-protocol.md)",
    )


def _shown(request: Any) -> str:
    return cut(msgspec.json.encode(request).decode(), _SHOWN_BYTES)


def _ended_early(calls: int, missing: JournalEntry) -> NoReturn:
    raise Failure(
        ErrorCode.NONDETERMINISTIC_AGENT,
        f"the execution ended after {calls} calls, but call {missing.call} ({missing.kind}) is on record",
    )
