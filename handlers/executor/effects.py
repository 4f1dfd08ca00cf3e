"""What an agent takes from the world is done here, and recorded as an event before the agent hears of it."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Callable
from typing import Any

from msgspec import UNSET, Struct
from msgspec.structs import replace

from l02.bus.connection.bus import Bus
from l02.bus.log.repository import Repository
from l02.bus.objects.store import inline, outline, outline_changes
from l02.bus.wire.agent.meter import ContextMeter, is_counted
from l02.bus.wire.agent.protocol import Answer, Call, CallError
from l02.bus.wire.agent.texts import cut
from l02.domain.agent.checkpoints import CheckpointRequested
from l02.domain.agent.effects import EffectRecorded, ToolCalled, ToolRequested
from l02.domain.agent.state import AgentState, JournalEntry, PendingSignal, StateChange
from l02.domain.errors import ErrorCode, Failure, error_code
from l02.domain.kernel.message import Report
from l02.domain.values import require_shallow
from l02.handlers.executor.inbox import Pulse
from l02.handlers.executor.tools import RunLocal, ToolBox, ToolOutcome

_random = random.SystemRandom()


class Result(Struct, frozen=True):
    """What an effect came to, as the agent will see it."""

    ok: bool
    value: Any

    def answer(self, execution_id: str, call: int) -> Answer:
        """The message to the agent."""
        if self.ok:
            return Answer(execution_id=execution_id, call=call, ok=True, result=self.value)
        said = self.value if isinstance(self.value, dict) else {"message": self.value}
        code = error_code(str(said.get("code"))) or ErrorCode.TOOL_INVOCATION_FAILED
        message, content = str(said.get("message", "")), said.get("content", UNSET)
        error = CallError(code=code.value, name=code.name, message=message, content=content)
        return Answer(execution_id=execution_id, call=call, ok=False, error=error)


def request_of(call: Call) -> Any:
    """What is compared when the execution runs again: the same effect with the same arguments, or E2116."""
    match call.kind:
        case "tool":
            return {"tool": call.tool, "arguments": call.arguments}
        case "sleep":
            return {"seconds": call.seconds}
        case "signal":
            return {"name": call.name, "timeout": None if call.timeout is UNSET else call.timeout}
        case "checkpoint":
            return {"label": None if call.label is UNSET else call.label}
        case _:
            return {}


class Effects:
    """The effects of one execution."""

    def __init__(
        self,
        bus: Bus,
        agents: Repository[AgentState],
        agent_id: str,
        execution_id: str,
        meter: ContextMeter,
        signalled: Pulse,
        node_id: str,
    ) -> None:
        self._bus = bus
        self._agents = agents
        self._agent_id = agent_id
        self._execution_id = execution_id
        self._node_id = node_id
        self._meter = meter
        self._signalled = signalled
        self._taking_signal = asyncio.Lock()

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

    async def perform(self, call: Call, tools: ToolBox, run_local: RunLocal) -> Result:
        """Do what is asked and record it."""
        match call.kind:
            case "tool":
                return await self._tool(call, tools, run_local)
            case "sleep":
                return await self._sleep(call)
            case "signal":
                return await self._signal(call)
            case "checkpoint":
                return await self._checkpoint(call)
            case "now":
                return await self._value(call, time.time())
            case "random":
                return await self._value(call, _random.random())

    async def _tool(self, call: Call, tools: ToolBox, run_local: RunLocal) -> Result:
        began = time.monotonic()
        assert call.tool is not UNSET
        assert call.arguments is not UNSET
        attempts = 0
        arguments = await outline(self._bus, call.arguments)
        try:
            tool = await tools.find(call.tool)
            await tools.check(tool, call.arguments)
            if not tool.idempotent:
                await self._record(
                    ToolRequested(
                        execution_id=self._execution_id,
                        call=call.call,
                        tool=call.tool,
                        arguments=arguments,
                    )
                )
            outcome = await tools.call(tool, call.arguments, run_local)
            attempts = outcome.attempts
            outcome = self._fitting(outcome)
        except Failure as failure:
            if failure.code is ErrorCode.INVALID_STATE:
                raise
            outcome = ToolOutcome(False, {"code": failure.code.value, "message": cut(failure.message)}, attempts)
        await self._record(
            ToolCalled(
                execution_id=self._execution_id,
                call=call.call,
                tool=call.tool,
                arguments=arguments,
                ok=outcome.ok,
                result=await outline(self._bus, outcome.result),
                attempts=outcome.attempts,
                duration_seconds=time.monotonic() - began,
            )
        )
        return Result(outcome.ok, outcome.result)

    def _fitting(self, outcome: ToolOutcome) -> ToolOutcome:
        """The outcome, if it can be kept; a failure without its content, if that is what cannot. Failure otherwise."""
        if not is_counted(outcome.ok, outcome.result):
            return outcome
        try:
            require_shallow(outcome.result, "$.result")
            self._meter.add(outcome.result)
        except Failure as failure:
            if outcome.ok and failure.code is ErrorCode.COMMAND_INVALID:
                raise Failure(ErrorCode.TOOL_INVOCATION_FAILED, f"the tool's result: {failure.message}") from failure
            if outcome.ok:
                raise
            return replace(outcome, result={key: outcome.result[key] for key in ("code", "message")})
        return outcome

    async def _value(self, call: Call, value: float) -> Result:
        await self._effect(call, result=value)
        return Result(True, value)

    async def _sleep(self, call: Call) -> Result:
        assert call.seconds is not UNSET
        deadline = await self._begin(call, call.seconds)
        assert deadline is not None
        await asyncio.sleep(max(0.0, deadline - time.time()))
        await self._effect(call, result=None)
        return Result(True, None)

    async def _signal(self, call: Call) -> Result:
        assert call.name is not UNSET
        deadline = await self._begin(call, None if call.timeout is UNSET else call.timeout)
        while True:
            signalled = self._signalled.next()
            async with self._taking_signal:
                signal = _first((await self._state()).signals, lambda signal: signal.name == call.name)
                if signal is not None:
                    await self._effect(call, result={"payload": signal.payload})
                    return Result(True, signal.payload)
            try:
                async with asyncio.timeout(None if deadline is None else max(0.0, deadline - time.time())):
                    await signalled.wait()
            except TimeoutError:
                await self._effect(call, result=None)
                return Result(True, None)

    async def _checkpoint(self, call: Call) -> Result:
        """Ask for it; who stores it also records the answer."""
        assert call.state is not UNSET
        require_shallow(call.state.set, "$.state")
        changes = await outline_changes(self._bus, call.state.set, call.state.delete)
        change = StateChange(set=changes, delete=tuple(call.state.delete))
        # The same id when the execution runs again, so that it is not stored twice.
        name = f"{self._execution_id}/{call.call}"
        await self._record(
            CheckpointRequested(
                checkpoint_id=hashlib.sha256(name.encode()).hexdigest()[:32],
                checkpoint_type="manual",
                node_id=self._node_id,
                label=None if call.label is UNSET else call.label,
                execution_id=self._execution_id,
                call=call.call,
                state=UNSET if change == StateChange() else change,
            )
        )
        while True:
            answered = self._signalled.next()
            journal = (await self._state()).executions[self._execution_id].journal
            entry = journal.answer(call.call)
            if entry is not None:
                return await self.recorded(entry)
            await answered.wait()

    async def _begin(self, call: Call, seconds: float | None) -> float | None:
        """Record that a wait begins, unless an earlier run did; its deadline, seconds since 1970."""
        waiting = (await self._state()).executions[self._execution_id].waiting.get(call.call)
        if waiting is not None:
            return waiting.deadline
        deadline = None if seconds is None else time.time() + seconds
        await self._effect(call, result=None, done=False, deadline=deadline)
        return deadline

    async def _state(self) -> AgentState:
        state = (await self._agents.load(self._agent_id)).state
        if self._execution_id not in state.executions:
            raise Failure(ErrorCode.INVALID_STATE, f"execution {self._execution_id} is not under way any more")
        return state

    async def _effect(self, call: Call, *, result: Any, done: bool = True, deadline: float | None = None) -> None:
        await self._record(
            EffectRecorded(
                execution_id=self._execution_id,
                call=call.call,
                kind=call.kind,
                request=request_of(call),
                result=result,
                done=done,
                deadline=deadline,
            )
        )

    async def _record(self, report: Report) -> None:
        await self._agents.record(self._agent_id, report, self._execution_id)


def _first(signals: tuple[PendingSignal, ...], fits: Callable[[PendingSignal], bool]) -> PendingSignal | None:
    return next((signal for signal in signals if fits(signal)), None)
