"""What an agent takes from the world is done here. It hears of it at once; nothing leaves before it is on record."""

from __future__ import annotations

import hashlib
import random
import time
from typing import Any

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from l02.bus.background.moments import before, reached
from l02.bus.objects.store import inline, outline, outline_changes
from l02.bus.wire.agent.divergence import request_of
from l02.bus.wire.agent.meter import is_counted
from l02.bus.wire.agent.protocol import Call
from l02.bus.wire.agent.texts import cut
from l02.domain.agent.execution import JournalEntry
from l02.domain.agent.saved.checkpoints import CheckpointRequested
from l02.domain.agent.state import AgentState, StateChange
from l02.domain.agent.work.approvals import ApprovalRequested
from l02.domain.agent.work.effects import EffectRecorded, ToolCalled, ToolRequested
from l02.domain.errors import ErrorCode, Failure
from l02.domain.specification import AgentSpecification
from l02.domain.values import require_shallow
from l02.handlers.executor.journal.results import Result
from l02.handlers.executor.models.calling import ModelCalls
from l02.handlers.executor.tools.calling import RunLocal, ToolBox, ToolOutcome
from l02.handlers.executor.work import Work

_random = random.SystemRandom()


class Effects:
    """The effects of one execution."""

    def __init__(self, work: Work, specification: AgentSpecification) -> None:
        self._work = work
        self._bus = work.node.bus
        self._models = ModelCalls(work, specification)

    def replayed(self, call: Call, entry: JournalEntry) -> None:
        """The agent has asked again for what is on record."""
        if call.kind == "model":
            self._models.replayed(call, entry)

    async def recorded_request(self, entry: JournalEntry) -> Any:
        """What was asked for, to compare with `request_of`."""
        if entry.kind != "tool":
            return entry.request
        return entry.request | {"arguments": await inline(self._bus, entry.request["arguments"])}

    async def recorded(self, entry: JournalEntry) -> Result:
        """A recorded effect once more."""
        value = await inline(self._bus, entry.result)
        if entry.kind == "signal" and value is not None:
            value = value["payload"]
        if entry.kind == "checkpoint":
            return Result("checkpoint_id" in value, value.get("checkpoint_id", value))
        return Result(entry.ok, value)

    async def perform(self, call: Call, tools: ToolBox, run_local: RunLocal) -> None:
        """Do what is asked; the answer is recorded and given as soon as it is known."""
        match call.kind:
            case "tool":
                await self._tool(call, tools, run_local)
            case "model":
                await self._models.perform(call)
            case "tools":
                await self._tools(call, tools)
            case "sleep":
                await self._sleep(call)
            case "signal":
                await self._signal(call)
            case "checkpoint":
                await self._checkpoint(call)
            case "now":
                self._answer(call, time.time())
            case "random":
                self._answer(call, _random.random())

    async def _tool(self, call: Call, tools: ToolBox, run_local: RunLocal) -> None:
        began = time.monotonic()
        assert call.tool is not UNSET
        assert call.arguments is not UNSET
        attempts = 0
        arguments = await outline(self._bus, call.arguments)
        try:
            tool = await tools.find(call.tool)
            await tools.check(tool, call.arguments)
            if tool.asks_at is not None:
                await self._approved(call, tool.asks_at, tool.name, arguments)
                began = time.monotonic()
            if not tool.idempotent:
                self._work.records.add(
                    ToolRequested(
                        execution_id=self._work.execution_id, call=call.call, tool=call.tool, arguments=arguments
                    )
                )
            outcome = await tools.call(tool, call.arguments, run_local, self._work.may_leave)
            attempts = outcome.attempts
            outcome = self._fitting(outcome)
        except Failure as failure:
            outcome = ToolOutcome(False, {"code": failure.code.value, "message": cut(failure.message)}, attempts)
        result = await outline(self._bus, outcome.result)
        called = ToolCalled(
            execution_id=self._work.execution_id,
            call=call.call,
            tool=call.tool,
            arguments=arguments,
            ok=outcome.ok,
            result=result,
            attempts=outcome.attempts,
            duration_seconds=time.monotonic() - began,
            text=self._work.live.text(call.call),
        )
        self._work.answer(call.call, called, Result(outcome.ok, outcome.result))

    def _fitting(self, outcome: ToolOutcome) -> ToolOutcome:
        """The outcome, if it can be kept; a failure without its content, if that is what cannot. Failure otherwise."""
        if not is_counted(outcome.ok, outcome.result):
            return outcome
        try:
            require_shallow(outcome.result, "$.result")
            self._work.meter.add(outcome.result)
        except Failure as failure:
            if outcome.ok and failure.code is ErrorCode.COMMAND_INVALID:
                raise Failure(ErrorCode.TOOL_INVOCATION_FAILED, f"the tool's result: {failure.message}") from failure
            if outcome.ok:
                raise
            return replace(outcome, result={key: outcome.result[key] for key in ("code", "message")})
        return outcome

    async def _approved(self, call: Call, server: str, tool: str, arguments: Any) -> None:
        """Wait for a person's yes, and for the agent if it rests meanwhile; Failure E2114 if it is a no."""
        execution_id = self._work.execution_id
        self._work.records.add(
            ApprovalRequested(execution_id=execution_id, call=call.call, server=server, tool=tool, arguments=arguments)
        )
        await self._work.records.stored()
        while True:
            answered = self._work.news.pulse.next()
            agent = await self._work.state()
            approval = agent.executions[execution_id].approvals[call.call]
            if approval.granted is not None and agent.may_act:
                approval.require_granted()
                return
            await answered.wait()

    async def _tools(self, call: Call, tools: ToolBox) -> None:
        offer = msgspec.to_builtins(await tools.offer())
        effect = self._effect(call, await outline(self._bus, offer))
        self._work.answer(call.call, effect, Result(True, offer))

    async def _sleep(self, call: Call) -> None:
        assert call.seconds is not UNSET
        deadline = await self._begin(call, call.seconds)
        assert deadline is not None
        await reached(deadline)
        self._answer(call, None)

    async def _signal(self, call: Call) -> None:
        assert call.name is not UNSET
        deadline = await self._begin(call, None if call.timeout is UNSET else call.timeout)
        while True:
            told = self._work.news.pulse.next()
            waiting = self._not_taken(await self._work.state(), call.name)
            if waiting:
                self._work.signals_taken[call.call] = call.name
                self._work.answer(call.call, self._effect(call, {"payload": waiting[0]}), Result(True, waiting[0]))
                return
            try:
                async with before(deadline):
                    await told.wait()
            except TimeoutError:
                self._answer(call, None)
                return

    def _not_taken(self, state: AgentState, name: str) -> list[Any]:
        """The payloads of signals of this name that are there for the next who waits for one."""
        execution = state.executions[self._work.execution_id]
        taken = {call: of for call, of in self._work.signals_taken.items() if not execution.has_recorded(call)}
        self._work.signals_taken = taken
        there = [signal.payload for signal in state.signals if signal.name == name]
        return there[list(taken.values()).count(name) :]

    async def _checkpoint(self, call: Call) -> None:
        """Ask for it; who stores it also records the answer."""
        assert call.state is not UNSET
        require_shallow(call.state.set, "$.state")
        changes = await outline_changes(self._bus, call.state.set, call.state.delete)
        change = StateChange(set=changes, delete=tuple(call.state.delete))
        # The same id when the execution runs again, so that it is not stored twice.
        name = f"{self._work.execution_id}/{call.call}"
        self._work.answers.await_checkpoint(call.call)
        self._work.records.add(
            CheckpointRequested(
                checkpoint_id=hashlib.sha256(name.encode()).hexdigest()[:32],
                checkpoint_type="manual",
                node_id=self._work.node.node_id,
                label=None if call.label is UNSET else call.label,
                execution_id=self._work.execution_id,
                call=call.call,
                state=UNSET if change == StateChange() else change,
            )
        )
        await self._work.records.stored()
        while True:
            answered = self._work.news.pulse.next()
            execution = (await self._work.state()).executions[self._work.execution_id]
            if execution.has_recorded(call.call):
                self._work.answers.place(execution.journal)
                return
            await answered.wait()

    async def _begin(self, call: Call, seconds: float | None) -> float | None:
        """Record that a wait begins, unless an earlier run did; its deadline, seconds since 1970."""
        waiting = (await self._work.state()).executions[self._work.execution_id].waiting.get(call.call)
        if waiting is not None:
            return waiting.deadline
        deadline = None if seconds is None else time.time() + seconds
        self._work.records.add(self._effect(call, None, done=False, deadline=deadline))
        return deadline

    def _answer(self, call: Call, value: Any) -> None:
        self._work.answer(call.call, self._effect(call, value), Result(True, value))

    def _effect(self, call: Call, result: Any, *, done: bool = True, deadline: float | None = None) -> EffectRecorded:
        return EffectRecorded(
            execution_id=self._work.execution_id,
            call=call.call,
            kind=call.kind,
            request=request_of(call),
            result=result,
            done=done,
            deadline=deadline,
            text=self._work.live.text(call.call),
        )
