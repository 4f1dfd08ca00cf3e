"""One call of a model: its endpoints in their order, each tried as often as makes sense, until one answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import zip_longest
from random import SystemRandom
from typing import NamedTuple

from msgspec.structs import replace
from prometheus_client.registry import Collector

from l02.domain.errors import ErrorCode, Failure
from l02.domain.inference import (
    Attempt,
    KnownInput,
    ModelFailure,
    ModelOutcome,
    ModelRequest,
    ModelUsage,
    PassBegin,
    Spending,
)
from l02.handlers.models.conversation import Checked, check
from l02.handlers.models.endpoints.breaker import BreakerState
from l02.handlers.models.endpoints.exchange import Exchange, OnText
from l02.handlers.models.endpoints.faults import Fault, away
from l02.handlers.models.endpoints.limiter import Turn
from l02.handlers.models.endpoints.lines import Line, Lines
from l02.handlers.models.keys import MAX_MESSAGE_BYTES
from l02.handlers.models.metrics import Metrics
from l02.handlers.models.quote import Worst, most, worst
from l02.handlers.models.settings import ModelSettings

_LONGEST_PAUSE = 8.0
_chance = SystemRandom()
FROM_THE_FIRST = PassBegin()


class Models:
    """The models of a node by their aliases. `first_pause`: seconds before the first retry, about."""

    def __init__(self, first_pause: float = 0.25) -> None:
        self._first_pause = first_pause
        self._lines = Lines()
        self._metrics = Metrics(self.breakers)

    @property
    def metrics(self) -> Collector:
        """What is measured, for the node's registry."""
        return self._metrics

    def breakers(self) -> dict[str, BreakerState]:
        """How each endpoint stands, by its host and port."""
        found: dict[str, BreakerState] = {}
        for place in self._lines.places.values():
            if found.get(place.name, BreakerState.CLOSED) is BreakerState.CLOSED:
                found[place.name] = place.breaker.state
        return found

    async def set(self, settings: ModelSettings) -> None:
        """Have these models from now on. Calls under way end as they began."""
        await self._lines.set(settings)

    async def close(self) -> None:
        """No more calls; connections are closed."""
        await self._lines.set(ModelSettings())

    def require(self, alias: str) -> None:
        """Failure E2101 if there is no model of that alias."""
        if alias not in self._lines.by_alias:
            there = ", ".join(self._lines.by_alias) or "none"
            raise Failure(
                ErrorCode.MODEL_UNAVAILABLE,
                f"this node has no model {alias[:128]!r} (its models: {there[:1000]}); the section `models` of its "
                "settings names them",
            )

    def quote(self, alias: str, request: ModelRequest, known: KnownInput | None = None) -> Spending:
        """The most that a call can use and cost, all attempts of one pass together.

        Raises Failure: E2101 for an alias that there is not, E2003 if it fits no endpoint's context window, E2110 if
        it is no request.
        """
        return most([each.worst for each in self._fitting(alias, check(request), known)])

    async def call(
        self,
        alias: str,
        request: ModelRequest,
        *,
        agent_id: str,
        on_text: OnText | None = None,
        known: KnownInput | None = None,
        begin: PassBegin = FROM_THE_FIRST,
    ) -> ModelOutcome:
        """One pass over the alias's endpoints; never raises Failure. Cancelling it closes the connection.

        It ends with an answer, or the first attempt that may be charged for, or when nothing is left to try.
        Give it the `known` that the quote was for, or what is estimated may be more than was reserved.
        """
        try:
            asked = check(request)
            fitting = [each for each in self._fitting(alias, asked, known) if each.number >= begin.endpoint]
        except Failure as failure:
            return ModelOutcome(failure=ModelFailure(code=failure.code, message=failure.message))
        begun = asyncio.get_running_loop().time()
        outcome = await _Pass(self._metrics, self._first_pause, asked, agent_id, on_text, begin).over(fitting)
        self._metrics.took("call", asyncio.get_running_loop().time() - begun)
        return outcome

    def _fitting(self, alias: str, asked: Checked, known: KnownInput | None) -> list[_Candidate]:
        self.require(alias)
        lines = self._lines.by_alias[alias]
        every = [
            _Candidate(number, line, worst(line.endpoint, line.pricing, asked, known))
            for number, line in enumerate(lines)
        ]
        fitting = [each for each in every if each.worst.fits]
        if not fitting:
            window = max(line.endpoint.context_window or 0 for line in lines)
            raise Failure(
                ErrorCode.CONTEXT_OVERFLOW,
                f"the request and an answer of {every[0].worst.max_tokens} tokens do not fit the {window} tokens that "
                f"{alias} can hold; leave out the oldest messages, or ask for less",
            )
        return fitting


class _Candidate(NamedTuple):
    """An endpoint that may be asked: its number in the alias's order, and what an attempt there can come to."""

    number: int
    line: Line
    worst: Worst


@asynccontextmanager
async def open_models(settings: ModelSettings) -> AsyncIterator[Models]:
    """The models of these settings; their connections are closed when the context ends."""
    models = Models()
    await models.set(settings)
    try:
        yield models
    finally:
        await models.close()


class _Pass:
    """One pass over the endpoints for one call."""

    def __init__(
        self,
        metrics: Metrics,
        first_pause: float,
        asked: Checked,
        agent_id: str,
        on_text: OnText | None,
        begin: PassBegin,
    ) -> None:
        self._metrics = metrics
        self._first_pause = first_pause
        self._asked = asked
        self._agent_id = agent_id
        self._on_text = on_text
        self._begin = begin
        self._begun = asyncio.get_running_loop().time() - begin.seconds
        self._attempts: list[Attempt] = []

    async def over(self, fitting: list[_Candidate]) -> ModelOutcome:
        """Try them in their order."""
        faults: list[tuple[Line, Fault]] = []
        for candidate, following in zip_longest(fitting, fitting[1:]):
            retries = self._begin.retries if candidate.number == self._begin.endpoint else 0
            outcome = await self._ask(candidate, retries)
            if isinstance(outcome, ModelOutcome):
                return outcome
            fault, goes_on = outcome
            faults.append((candidate.line, fault))
            if fault.charged and goes_on is None and fault.elsewhere and following is not None:
                goes_on = self._going_on(following.number, 0)
            if fault.charged or not fault.elsewhere:
                return self._without_answer(faults, goes_on)
        return self._without_answer(faults, None)

    def _without_answer(self, faults: list[tuple[Line, Fault]], goes_on: PassBegin | None) -> ModelOutcome:
        if not faults:
            failure = ModelFailure(code=ErrorCode.MODEL_UNAVAILABLE, message="no further endpoint is left to be asked")
        else:
            failure = replace(_failure(faults), goes_on=goes_on)
        return ModelOutcome(failure=failure, attempts=tuple(self._attempts))

    def _going_on(self, endpoint: int, retries: int) -> PassBegin:
        seconds = asyncio.get_running_loop().time() - self._begun
        return PassBegin(endpoint=endpoint, retries=retries, seconds=seconds)

    async def _ask(self, candidate: _Candidate, retries: int) -> ModelOutcome | tuple[Fault, PassBegin | None]:
        """One endpoint, as often as makes sense; a Fault, and where to go on here with what is reserved anew."""
        endpoint, loop = candidate.line.endpoint, asyncio.get_running_loop()
        deadline = self._begun + endpoint.timeouts.whole
        if retries:
            await asyncio.sleep(self._pause(retries - 1))
        while True:
            fault = await self._attempt(candidate.line, candidate.worst, deadline)
            if isinstance(fault, ModelOutcome):
                return fault
            pause = max(self._pause(retries), fault.retry_after or 0.0)
            if not fault.again or retries >= endpoint.max_retries or loop.time() + pause >= deadline:
                return fault, None
            retries += 1
            self._metrics.retried(endpoint.name, fault.code.value)
            if fault.charged:
                return fault, self._going_on(candidate.number, retries)
            await asyncio.sleep(pause)

    def _pause(self, retries: int) -> float:
        return float(min(self._first_pause * 2**retries, _LONGEST_PAUSE) * _chance.uniform(0.5, 1.5))

    async def _attempt(self, line: Line, most: Worst, deadline: float) -> ModelOutcome | Fault:
        try:
            async with line.limiter.turn(self._agent_id, most.usage.tokens, deadline) as turn:
                return await self._exchange(line, most, deadline, turn)
        except Fault as fault:
            return fault

    async def _exchange(self, line: Line, most: Worst, deadline: float, turn: Turn) -> ModelOutcome | Fault:
        endpoint, breaker, loop = line.endpoint, line.place.breaker, asyncio.get_running_loop()
        if not breaker.admits():
            raise away(
                f"it has failed {breaker.failures} times in a row; it is asked again in {breaker.opens_in:.0f} s",
                again=False,
            )
        begun, failed = loop.time(), None
        try:
            async with line.place.in_use() as connections:
                exchange = Exchange(connections, endpoint, line.key, self._asked, most.max_tokens)
                await exchange.run(self._on_text, deadline)
        except Fault as fault:
            failed = fault
        finally:
            breaker.let_go()
        draft = exchange.draft
        usage = ModelUsage() if failed and not failed.charged else draft.used(most.usage)
        line.limiter.used(turn, usage.tokens)
        if failed is None or not failed.unwell:
            breaker.succeeded()
        else:
            breaker.failed()
        self._attempts.append(_attempt(line, loop.time() - begun, usage, failed))
        self._metrics.used(endpoint.model, usage)
        if exchange.first_token_at is not None and self._asked.request.stream:
            self._metrics.took("first_token", exchange.first_token_at - begun)
        if failed is None:
            answer = draft.answer(endpoint.model, as_json=self._asked.request.output_schema is not None)
            return ModelOutcome(answer=answer, attempts=tuple(self._attempts))
        if draft.shown and self._asked.request.stream:
            failure = ModelFailure(code=failed.code, message=_of(line, failed), cut_off=True)
            return ModelOutcome(failure=failure, attempts=tuple(self._attempts))
        return failed


def _attempt(line: Line, seconds: float, usage: ModelUsage, fault: Fault | None) -> Attempt:
    price = line.pricing.of(usage.input_tokens)
    return Attempt(
        endpoint=line.endpoint.name,
        model=line.endpoint.model,
        duration_seconds=seconds,
        usage=usage,
        cost=price.cost(usage) if price else 0,
        price=price,
        code=fault.code.value if fault else None,
        message=fault.message if fault else None,
    )


def _failure(faults: list[tuple[Line, Fault]]) -> ModelFailure:
    """The code is that of the last endpoint that answered at all, or was given its time; E2101 if none was there."""
    reached = [fault for _, fault in faults if fault.reached]
    message = "; ".join(_of(line, fault) for line, fault in faults)
    return ModelFailure(
        code=(reached or [fault for _, fault in faults])[-1].code,
        message=message.encode()[:MAX_MESSAGE_BYTES].decode(errors="ignore"),
    )


def _of(line: Line, fault: Fault) -> str:
    return f"{line.endpoint.model} at {line.endpoint.name}: {fault.message}"
