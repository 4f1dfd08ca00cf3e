"""Works off one agent's executions on whatever process the agent has."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

import msgspec
import structlog
from msgspec import UNSET

from l02.bus.background.cancelling import end
from l02.bus.background.moments import before
from l02.bus.background.news import News
from l02.bus.objects.store import inline, inline_values, outline, outline_changes
from l02.bus.wire.agent.lines import ProtocolError
from l02.bus.wire.agent.meter import ContextMeter, is_counted
from l02.bus.wire.agent.protocol import Complete, Fail, TooHeavy
from l02.bus.wire.agent.texts import cut
from l02.domain.agent.execution import TOOL, Execution
from l02.domain.agent.state import AgentState, StateChange
from l02.domain.agent.work.executions import ExecutionCompleted, ExecutionFailed, overdue
from l02.domain.errors import ErrorCode, Failure, OwnError
from l02.domain.values import require_shallow
from l02.domain.weight import WEIGHT_IN_WORDS, footprint
from l02.handlers.executor.deadlines import cancel_deadline, warned_of_time
from l02.handlers.executor.effects import Effects
from l02.handlers.executor.heartbeat import watch_heartbeat
from l02.handlers.executor.inbox import Inbox
from l02.handlers.executor.journal.live_calls import LiveCalls
from l02.handlers.executor.journal.records import RecordRefused, Records
from l02.handlers.executor.models.memory import CountedInputs
from l02.handlers.executor.run import Run
from l02.handlers.executor.state_size import require_passable
from l02.handlers.executor.streaming import TokenStream
from l02.handlers.executor.tools.calling import ToolBox
from l02.handlers.executor.work import Surroundings, Work
from l02.handlers.sandbox.channel import ChannelClosed
from l02.handlers.sandbox.processes import AgentProcess

_T = TypeVar("_T")

_END_SECONDS = 1.0
_ENTRIES_A_TURN = 100
_log = structlog.get_logger()


class _DoubtfulCall(Failure):
    """Whether a tool took effect, only a person can say; then the work goes on."""


class AgentRunner:
    """One per agent on this node."""

    def __init__(self, node: Surroundings, agent_id: str) -> None:
        self._node = node
        self._agent_id = agent_id
        self._news = News()
        self._woken_by = 0
        self._woken = asyncio.Event()
        self._work: dict[str, Work] = {}
        self._task: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._current: Run | None = None
        self._warned: set[str] = set()
        self._counted = CountedInputs()

    def attach(self, process: AgentProcess) -> None:
        """Work on this process from now on."""
        self._task = asyncio.create_task(self._serve(process))

    def wake(self, sequence: int) -> None:
        """There is a new execution, or an answer, as of this stream sequence; it was seen if there was a later one."""
        if sequence > self._woken_by:
            self._woken_by = sequence
            self._woken.set()
        self.tell(sequence)

    def tell(self, sequence: int) -> None:
        """There is a signal, which concerns only who waits for one."""
        self._news.tell(sequence)

    def rest(self) -> None:
        """The agent is suspended: what a model still says is of no use to anybody, and would be paid for."""
        for work in self._work.values():
            self._in_background(work.rest())

    def ended(self, execution_id: str, sequence: int) -> None:
        """The execution has no time left. Where its timer said so, the process and the calls do not know yet."""
        self.wake(sequence)
        work = self._work.pop(execution_id, None)
        if work is None:
            return
        self._in_background(work.live.cancel())
        if work.limit is not None and not work.limit.expired():
            work.limit.reschedule(asyncio.get_running_loop().time())

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def detach(self) -> None:
        """Work on no process."""
        if self._task is not None:
            await end(self._task)
            self._task = None

    def end(self) -> None:
        """The agent is gone: stop all that is under way for it."""
        self._in_background(self.close())

    async def close(self) -> None:
        """Stop the work and the calls that are under way."""
        await self.detach()
        for work in [*self._work.values()]:
            await work.close()
        self._work.clear()

    async def _serve(self, process: AgentProcess) -> None:
        inbox = Inbox(self._woken)
        helpers = [asyncio.create_task(inbox.fill(process.channel, self._node.share))]
        try:
            specification = (await self._node.agents.known(self._agent_id, 0)).state.specification
            limit = specification.lifecycle.hung_after_seconds
            if process.hello.answers_pings and limit is not None:
                helpers.append(asyncio.create_task(watch_heartbeat(process, inbox, limit, self._runs_own_tool)))
            eager = [server for server in specification.tools.values() if server.start == "eager"]
            with self._node.tool_servers.running(eager):
                while True:
                    await self._run(process, await self._next_execution(inbox), inbox)
        except ProtocolError as error:
            _log.warning("an agent broke the protocol", agent_id=self._agent_id, error=str(error))
            process.condemn(f"the agent broke the protocol: {error}")
        except ChannelClosed:
            await _require_end(process)
        except RecordRefused as refusal:
            if not (await self._node.agents.known(self._agent_id, 0)).state.may_act:
                await process.ended()  # it is given time to end, and its work goes on when the agent does
                return
            _log.warning("a run goes on from what is on disk", agent_id=self._agent_id, refusal=str(refusal))
            process.condemn(f"what it did does not fit what is on record: {refusal}")
        except Exception as error:
            _log.exception("running an agent failed", agent_id=self._agent_id)
            process.condemn(f"{ErrorCode.HANDLER_FAILED.value}: the node failed while running it: {error!r}")
        finally:
            self._current = None
            for helper in helpers:
                await end(helper)

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            _log.warning("a specification names tools that there are not", agent_id=self._agent_id, problem=cut(text))

    def _runs_own_tool(self) -> bool:
        return self._current is not None and self._current.runs_own_tool

    async def _next_execution(self, inbox: Inbox) -> Work:
        """The oldest open execution, once there is one."""
        while True:
            self._woken.clear()
            state = (await self._node.agents.known(self._agent_id, self._news.sequence)).state
            for known in self._work.keys() - state.executions.keys():
                if (work := self._work.pop(known, None)) is not None:
                    await work.close()
            if state.executions:
                return self._work_of(next(iter(state.executions.values())), state)
            if not inbox.is_empty:
                message = await inbox.receive()
                raise ProtocolError(f"{type(message).__name__} came while no execution is under way")
            await self._woken.wait()

    async def _run(self, process: AgentProcess, work: Work, inbox: Inbox) -> None:
        try:
            state = await work.settled()
        except RecordRefused:  # of an earlier run: this one begins with what is on disk
            self._forget(work)
            return
        try:
            await self._run_from(state, process, work, inbox)
        except RecordRefused:
            self._forget(work)
            raise

    def _forget(self, work: Work) -> None:
        if self._work.pop(work.execution_id, None) is not None:
            self._in_background(work.close())

    async def _run_from(self, state: AgentState, process: AgentProcess, work: Work, inbox: Inbox) -> None:
        execution = state.executions.get(work.execution_id)
        if execution is None:
            return
        bus = self._node.bus
        node = self._node
        tools = ToolBox(
            state.specification, process.hello.tools, node.tool_servers, node.checks, self._warn, self._agent_id
        )
        work.is_resting = False
        # At once: what is answered from here on is not on record in `state`, and the run is told of it.
        run = Run(work, Effects(work, state.specification), state, process, tools)
        try:
            _require_no_doubtful_call(self._agent_id, execution, work.live)
            work.meter.tokens = 0
            work.meter.add(execution.input)
            work.input_tokens = work.steps_meter.tokens = work.meter.tokens
            work.records.footprint = 0
            for number, entry in enumerate(execution.journal, start=1):
                if number % _ENTRIES_A_TURN == 0:
                    await asyncio.sleep(0)
                work.records.footprint += footprint(msgspec.json.encode((entry.request, entry.result)))
                if entry.kind == TOOL and is_counted(entry.ok, result := await inline(bus, entry.result)):
                    work.meter.entered(result)
                    if entry.after is not UNSET:
                        work.steps_meter.entered(result)
            data = await inline_values(bus, state.data)
        except Failure as failure:
            held = isinstance(failure, _DoubtfulCall)
            await self._fail(work, failure.code.value, failure.message, process.incarnation, held=held)
            return
        is_late = execution.deadline is not None and execution.deadline <= time.time()
        if is_late or self._work.get(execution.execution_id) is not work:
            late = overdue(state)
            await self._fail(work, late.code.value, late.message, process.incarnation)
            return
        self._current = run
        try:
            async with warned_of_time(self._node.agents, self._agent_id, execution):
                end = await _before(execution.deadline, run.run(execution.input, data, inbox), work, state)
        except Failure as failure:
            try:
                await self._fail(work, failure.code.value, failure.message, process.incarnation)
            finally:
                process.condemn(str(failure), ended_with=execution.execution_id)
            raise ChannelClosed from failure
        await self._finish(process, work, run, end, data)

    def _work_of(self, execution: Execution, state: AgentState) -> Work:
        work = self._work.get(execution.execution_id)
        if work is None:
            limits, compacted = state.specification.executor, bool(state.specification.model)
            work = self._work[execution.execution_id] = Work(
                node=self._node,
                agent_id=self._agent_id,
                execution_id=execution.execution_id,
                news=self._news,
                meter=ContextMeter(limits.context_window_tokens, compacted=compacted),
                steps_meter=ContextMeter(limits.context_window_tokens, compacted=compacted),
                stream=TokenStream(
                    self._node.bus,
                    self._agent_id,
                    execution.execution_id,
                    enabled=limits.enable_streaming,
                    has_run=execution.has_run,
                    journal=execution.journal,
                ),
                counted=self._counted,
                has_deadline=execution.deadline is not None,
                records=Records(self._node.agents, self._agent_id, execution.execution_id, state.incarnation),
            )
        return work

    async def _finish(
        self, process: AgentProcess, work: Work, run: Run, end: Complete | Fail | TooHeavy, data: dict[str, Any]
    ) -> None:
        incarnation = process.incarnation
        if isinstance(end, TooHeavy):
            message = f"output and state hold {WEIGHT_IN_WORDS}; return less, or a text"
            await self._fail(work, ErrorCode.PAYLOAD_TOO_LARGE.value, message, incarnation)
            return
        if isinstance(end, Fail):
            if end.code is not UNSET and end.code in run.answered_codes:
                await self._fail(work, end.code, end.message, incarnation)
                return
            detail = None
            if end.code is not UNSET:
                detail = OwnError(code=end.code, name=end.code if end.name is UNSET else end.name)
            await self._fail(work, ErrorCode.EXECUTION_FAILED.value, end.message, incarnation, detail=detail)
            return
        try:
            require_shallow(end.output, "$.output")
            require_shallow(end.state.set, "$.state")
            work.meter.add(end.output)
            await require_passable(data, end.state)
            changes = await outline_changes(self._node.bus, end.state.set, end.state.delete)
        except Failure as failure:
            message = f"the output cannot be kept: {failure.message}"
            await self._fail(work, failure.code.value, message, incarnation)
            return
        completed = ExecutionCompleted(
            execution_id=work.execution_id,
            output=await outline(self._node.bus, end.output),
            tokens=work.meter.tokens,
            duration_seconds=time.monotonic() - work.began,
            calls=run.calls,
            state=StateChange(set=changes, delete=tuple(end.state.delete)),
        )
        await self._end_work(work, completed, incarnation)

    async def _fail(
        self,
        work: Work,
        code: str,
        message: str,
        incarnation: int,
        *,
        held: bool = False,
        detail: OwnError | None = None,
    ) -> None:
        """`incarnation` is the process that says so, or that the node says it of."""
        failed = ExecutionFailed(
            execution_id=work.execution_id,
            code=code,
            message=cut(message),
            tokens=work.meter.tokens,
            held=held,
            detail=detail,
        )
        await self._end_work(work, failed, incarnation)

    async def _end_work(self, work: Work, end: ExecutionCompleted | ExecutionFailed, incarnation: int) -> None:
        """Record it together with what is still on its way. The end of a text is said while it can be said again."""
        has_text = work.stream.has_pieces
        if has_text:
            await work.may_leave()
            await work.stream.done()
        work.records.add(end, incarnation)
        await work.records.stored()
        if not has_text:
            await work.stream.done()
        if work.has_deadline:
            await cancel_deadline(self._node.bus, self._agent_id, work.execution_id)


async def _before(deadline: float | None, run: Coroutine[Any, Any, _T], work: Work, state: AgentState) -> _T:
    """What comes of `run`; Failure E2006 if that takes until `deadline`, or the work's timer was first."""
    try:
        async with before(deadline) as work.limit:
            return await run
    except TimeoutError:
        if work.limit is None or not work.limit.expired():
            raise
        raise overdue(state) from None
    finally:
        work.limit = None


async def _require_end(process: AgentProcess) -> None:
    """A closed socket nearly always means that the process is gone; why, its exit says better."""
    try:
        async with asyncio.timeout(_END_SECONDS):
            await process.ended()
    except TimeoutError:
        process.condemn("the agent closed its socket")


def _require_no_doubtful_call(agent_id: str, execution: Execution, live: LiveCalls) -> None:
    """A tool that must not be called twice and was under way when the node died: only a person can know."""
    for call, requested in execution.requested_tools.items():
        if call not in live:
            raise _DoubtfulCall(
                ErrorCode.TOOL_INVOCATION_FAILED,
                f"tool {requested.tool!r} (call {call}) was under way when its process died; it is not declared "
                "idempotent, so it is not called again: find out whether it took effect, then let the work go on with "
                f"`l02 resume {agent_id} --assume done` (--result JSON is what the tool answered) or `--assume "
                f"not-done`, with `--execution {execution.execution_id}` if others wait too",
            )
