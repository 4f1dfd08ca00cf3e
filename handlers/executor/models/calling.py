"""A call of a model, from the request to the answer: each attempt is reserved and on record before a byte leaves.

What was reserved is settled when what came of the attempt is on record, and not before: until then a crash would charge
for all of it. A call that a crash cuts off is made again, since to ask twice does no harm but to the purse.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import replace

from l02.bus.objects.store import outline
from l02.bus.wire.agent.conversation import Asked
from l02.bus.wire.agent.protocol import REQUEST_FIELDS, Call
from l02.bus.wire.agent.texts import cut
from l02.domain.agent.execution import JournalEntry
from l02.domain.agent.work.models import ModelCalled, ModelRequested, require_model
from l02.domain.errors import ErrorCode, Failure
from l02.domain.inference import Drawn, KnownInput, ModelOutcome, ModelRequest, ModelUsage, PassBegin, Spending
from l02.domain.specification import AgentSpecification
from l02.domain.spending.amounts import Amount
from l02.domain.spending.money import in_usd
from l02.domain.values import require_shallow
from l02.handlers.executor.journal.results import Result
from l02.handlers.executor.models.answers import as_result, asked_again, misfit
from l02.handlers.executor.models.memory import ConversationMemory
from l02.handlers.executor.streaming import Answering
from l02.handlers.executor.work import Work

MAX_MENDED = 2
"""So often a model is told that its answer does not fit the schema."""
MAX_CUT_OFF = 2
"""So often a stream that has broken off is asked for again."""
_END_SECONDS = 5.0


class _Attempt:
    """One that is on record."""

    def __init__(
        self, number: int, request: ModelRequest, asked: Asked, reserved: Spending, known: KnownInput | None = None
    ) -> None:
        self.number = number
        self.request = request
        self.asked = asked
        self.reserved = reserved
        self.known = known
        self.drawn: tuple[Drawn, ...] = ()
        self.used = reserved
        """What is settled when it is over: all, unless somebody knows better."""
        self.began = time.monotonic()
        self.has_left = False


class _Next(Struct, frozen=True):
    """What follows from an attempt: the agent is told `result`, or another one asks for `request`."""

    result: Result
    request: ModelRequest | None = None


class ModelCalls:
    """Those of one run of an execution."""

    def __init__(self, work: Work, specification: AgentSpecification) -> None:
        self._work = work
        self._specification = specification
        self._memory = ConversationMemory(work.counted)

    def replayed(self, call: Call, entry: JournalEntry) -> None:
        """A call is answered from the record."""
        self._memory.learn(call.asked, call.request, entry.counted)

    async def perform(self, call: Call) -> None:
        """Make the call; the answer is recorded and given as soon as it is known."""
        await _Calling(self._work, self._specification, self._memory, call).run()


class _Calling:
    """One call."""

    def __init__(self, work: Work, specification: AgentSpecification, memory: ConversationMemory, call: Call) -> None:
        assert call.model is not UNSET
        self._work = work
        self._node = work.node
        self._specification = specification
        self._memory = memory
        self._call = call
        self._alias: str = call.model
        self._budgets = () if specification.budget is UNSET else (specification.budget,)
        self._said = work.live.text(call.call)
        self._mended = self._cut_off = 0
        self._begin = PassBegin()
        self._usage = ModelUsage()
        self._cost = 0

    async def run(self) -> None:
        """Attempt after attempt, until one is an answer or the next may not be made."""
        try:
            require_shallow([getattr(self._call, name) for name in REQUEST_FIELDS], "$")
            require_model(self._specification, self._alias)
            request: ModelRequest | None = self._call.request
            number = await self._settled_attempts()
            while request is not None:
                number += 1
                async with self._requested(number, request) as attempt:
                    request = await self._make(attempt)
        except Failure as failure:
            refused = _failed(failure.code, failure.message)
            self._work.answer(self._call.call, self._called(_refused_attempt(self._call), refused), refused)

    async def _settled_attempts(self) -> int:
        """How many are on record. The last is settled first if nobody knows what came of it: the room that it takes up
        may be what the next one needs.
        """
        execution = (await self._work.state()).executions[self._work.execution_id]
        asked = execution.asked_models.get(self._call.call)
        if asked is None:
            return 0
        if asked.reserved is not None:
            lost = _Attempt(asked.attempt, self._call.request, self._call.asked, asked.reserved)
            lost.drawn = asked.drawn
            why = _failed(ErrorCode.INFERENCE_FAILED, "the process that asked was gone before the model had answered")
            called = self._estimated(self._called(lost, why, again=True), asked.reserved)
            self._work.records.add(replace(called, sha256=asked.request))
        return asked.attempt

    @asynccontextmanager
    async def _requested(self, number: int, request: ModelRequest) -> AsyncIterator[_Attempt]:
        """An attempt that is reserved and on record; what it has used is settled at the end."""
        attempt = await self._admitted(number, request)
        try:
            yield attempt
        finally:
            self._node.budgets.settle(attempt.drawn, attempt.reserved, attempt.used)

    async def _admitted(self, number: int, request: ModelRequest) -> _Attempt:
        """One that is reserved and on record, when no limit is in its way any more."""
        asked = self._call.asked if request is self._call.request else Asked.of(self._alias, request)
        work = self._work
        while True:
            known = self._memory.known(asked)
            reserved = self._node.models.quote(self._alias, request, known)
            attempt = _Attempt(number, request, asked, reserved, known)
            try:
                attempt.drawn = await self._node.budgets.reserve(self._budgets, reserved)
                await self._recorded(attempt)
                return attempt
            except Failure as refused:
                if refused.code is not ErrorCode.TOKEN_BUDGET_EXCEEDED:
                    raise
                await self._node.limits.met(work.agent_id, work.execution_id, self._call.call, reserved, refused)

    async def _recorded(self, attempt: _Attempt) -> None:
        try:
            await self._record(attempt)
        except BaseException:
            self._node.budgets.settle(attempt.drawn, attempt.reserved, attempt.used)
            raise

    async def _record(self, attempt: _Attempt) -> None:
        new = msgspec.to_builtins(self._memory.record(attempt.asked, attempt.request))
        requested = ModelRequested(
            execution_id=self._work.execution_id,
            call=self._call.call,
            attempt=attempt.number,
            alias=self._alias,
            sha256=attempt.asked.sha256,
            request=await outline(self._node.bus, new),
            reserved=Amount.of(attempt.reserved),
            drawn=attempt.drawn,
            budgets=tuple(drawn.budget for drawn in attempt.drawn),
        )
        try:
            await _to_its_end(self._work.records.try_to(requested))
        except Failure:
            attempt.used = Spending()
            raise
        self._memory.is_on_record(attempt.asked)

    async def _make(self, attempt: _Attempt) -> ModelRequest | None:
        """Ask, and record what comes of it; the request of the next attempt, if there is to be one."""
        work = self._work
        text = work.stream.answering() if attempt.request.stream else None
        try:
            outcome = await self._ask(attempt, text)
            follows = await self._judged(attempt, outcome)
            called = self._called(attempt, follows.result, outcome, again=follows.request is not None)
            called = replace(called, result=await outline(self._node.bus, called.result))
        except asyncio.CancelledError:
            if work.is_resting:
                work.records.add(self._cut_off_call(attempt))
            if text is not None:
                await text.void()
            raise
        if called.ok:
            self._memory.learn(attempt.asked, attempt.request, called.entry.counted)
        if text is not None and called.ok:
            called = replace(called, streamed=text.finish())
        if follows.request is None:
            work.answer(self._call.call, called, follows.result)
        else:
            work.records.add(called)
        if text is not None and not called.ok:
            await text.void()
        await _to_its_end(self._settle(attempt, called))
        if text is not None and called.ok:
            await text.release()
        return follows.request

    async def _settle(self, attempt: _Attempt, called: ModelCalled) -> None:
        await self._work.records.stored()
        attempt.used = called.used

    async def _ask(self, attempt: _Attempt, text: Answering | None) -> ModelOutcome | None:
        """What came of it; None if it may not be made, since what was reserved is this node's no more."""
        work = self._work

        async def say(delta: str) -> None:
            assert text is not None
            await work.may_go_on()
            await text.say(delta)

        await work.may_leave()
        if not self._node.budgets.holds(attempt.drawn):
            return None
        attempt.has_left = True
        return await self._node.models.call(
            self._alias,
            attempt.request,
            agent_id=work.agent_id,
            on_text=None if text is None else say,
            known=attempt.known,
            begin=self._begin,
        )

    async def _judged(self, attempt: _Attempt, outcome: ModelOutcome | None) -> _Next:
        if outcome is None:
            again = _failed(ErrorCode.TOKEN_BUDGET_EXCEEDED, "what was reserved had to be reserved again")
            return _Next(again, attempt.request)
        self._usage += outcome.usage
        self._cost += outcome.cost
        if outcome.answer is None:
            assert outcome.failure is not None
            failed = _failed(outcome.failure.code, outcome.failure.message)
            self._begin = outcome.failure.goes_on or PassBegin()
            if outcome.failure.goes_on is not None:
                return _Next(failed, attempt.request)
            if not outcome.failure.cut_off or self._cut_off >= MAX_CUT_OFF:
                return _Next(failed)
            self._cut_off += 1
            return _Next(failed, attempt.request)
        self._begin = PassBegin()
        try:
            problem = await misfit(self._node.checks, attempt.request, outcome.answer, self._work.agent_id)
            if problem is None:
                return _Next(Result(True, as_result(outcome.answer, self._usage, self._cost)))
        except Failure as failure:
            return _Next(_failed(failure.code, failure.message))
        failed = _failed(ErrorCode.INFERENCE_FAILED, f"the answer does not fit the output_schema: {problem.message}")
        if not problem.mendable or self._mended >= MAX_MENDED:
            return _Next(failed)
        self._mended += 1
        return _Next(failed, asked_again(self._call.request, outcome.answer, problem))

    def _cut_off_call(self, attempt: _Attempt) -> ModelCalled:
        """Nobody knows what it has used, if it has left; it is made again when the agent goes on."""
        why = _failed(ErrorCode.INFERENCE_FAILED, "the agent was suspended while the model answered")
        called = self._called(attempt, why, again=True)
        if not attempt.has_left:
            attempt.used = Spending()
            return called
        return self._estimated(called, attempt.reserved)

    @staticmethod
    def _estimated(called: ModelCalled, reserved: Spending) -> ModelCalled:
        return replace(called, input_tokens=reserved.tokens, cost_usd=in_usd(reserved.cost), estimated=True)

    def _called(
        self, attempt: _Attempt, result: Result, outcome: ModelOutcome | None = None, *, again: bool = False
    ) -> ModelCalled:
        outcome = outcome or ModelOutcome()
        last = outcome.attempts[-1] if outcome.attempts else None
        usage = outcome.usage
        return ModelCalled(
            execution_id=self._work.execution_id,
            call=self._call.call,
            attempt=attempt.number,
            alias=self._alias,
            sha256=self._call.asked.sha256,
            model=last.model if last else None,
            endpoint=last.endpoint if last else None,
            input_tokens=usage.input_tokens,
            cached_tokens=usage.cached_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            output_tokens=usage.output_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            estimated=usage.estimated,
            cost_usd=in_usd(outcome.cost),
            price=last.price if last else None,
            duration_seconds=time.monotonic() - attempt.began,
            attempts=len(outcome.attempts),
            finish_reason=outcome.answer.finish_reason if outcome.answer else None,
            ok=result.ok,
            result=result.value,
            reserved=Amount.of(attempt.reserved),
            drawn=attempt.drawn,
            again=again,
            text=self._said,
        )


def _refused_attempt(call: Call) -> _Attempt:
    """One that was never requested."""
    return _Attempt(0, call.request, call.asked, Spending())


def _failed(code: ErrorCode, message: str) -> Result:
    return Result(False, {"code": code.value, "message": cut(message)})


async def _to_its_end(waiting: Coroutine[Any, Any, None]) -> None:
    """Who is cancelled while it waits for the record waits on for a moment: what is settled depends on it."""
    task = asyncio.create_task(waiting)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task}, timeout=_END_SECONDS)
        raise
    finally:
        task.cancel()
