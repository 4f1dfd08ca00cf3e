"""What an execution asks of models: reserved and on record before a request leaves, settled by what came of it.

A slice's spending is a fold over these events: `ModelRequested` takes what it `reserved`, `ModelCalled` gives that back
and takes what was used, and what is `lost`, in whichever event, was used as it was reserved.
"""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from l02.domain.agent.execution import MODEL, AskedModel, CountedInput, JournalEntry, LostModelCall, SaidText, Streamed
from l02.domain.agent.messages import AgentEvent, AgentReport, require_may_act
from l02.domain.agent.state import AgentState
from l02.domain.agent.work.blocking import begun, rolled_over
from l02.domain.agent.work.effects import at_work
from l02.domain.agent.work.own_limits import evolved, exceeded, own_action, own_shortage, warned
from l02.domain.errors import ErrorCode, Failure
from l02.domain.inference import Count, Drawn, FinishReason, ModelUsage, Price, Spending
from l02.domain.kernel.message import Context
from l02.domain.specification import AgentSpecification
from l02.domain.spending.amounts import Amount
from l02.domain.spending.exhausted import Exhausted
from l02.domain.spending.limits import LimitAction, LimitName
from l02.domain.spending.money import Usd, in_millionths
from l02.domain.spending.windows import with_begun


class ModelRequested(AgentReport, frozen=True, kw_only=True):
    """A model is about to be asked, and what that can use and cost at most is `reserved` for it.

    `request` is what is new in it, and `sha256` names the whole (docs/models.md). `drawn` are the slices that it was
    reserved from, `budgets` the budgets from the agent's own to the root. `lost` is the attempt before, if nobody knows
    what came of that. `reset_at` is when the windows of the agent's own limits are over that begin with it (seconds
    since 1970).
    """

    type: ClassVar[str] = "agent.model.requested"
    execution_id: str
    call: int
    attempt: int
    alias: str
    sha256: str
    request: Any
    reserved: Amount
    drawn: tuple[Drawn, ...] = ()
    budgets: tuple[str, ...] = ()
    lost: LostModelCall | UnsetType = UNSET
    reset_at: dict[LimitName, float] | UnsetType = UNSET

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """Once for each attempt of a call; none begins when the agent is to rest or to end, or has not enough left of
        its own limits (Exhausted).
        """
        execution = at_work(agent, self.execution_id, context)
        require_may_act(agent, "ask a model for")
        require_model(agent.specification, self.alias)
        before = execution.asked_models.get(self.call)
        if before == self._asked:
            return []
        if execution.has_recorded(self.call) or (before is not None and before.attempt >= self.attempt):
            raise Failure(ErrorCode.INVALID_STATE, f"call {self.call} is on record, and further on than this")
        events = rolled_over(agent, context)
        agent = evolved(agent, events)
        short = own_shortage(agent, self.execution_id, self.call, self.reserved.spending)
        if short is not None:
            if own_action(agent) is not LimitAction.WARN:
                raise Exhausted(short, own_action(agent))
            events += exceeded(agent, short, LimitAction.WARN)
        lost = None if before is None else before.lost(self.call)
        return [*events, replace(self, lost=lost or UNSET, reset_at=begun(agent, context) or UNSET)]

    def evolve(self, agent: AgentState, /) -> AgentState:
        """The model is asked; what the attempt before had reserved is spent, if nobody knows better."""
        execution = agent.executions[self.execution_id]
        after = replace(
            execution,
            asked_models={**execution.asked_models, self.call: self._asked},
            blocked={call: one for call, one in execution.blocked.items() if call != self.call},
        )
        spent = Spending() if self.lost is UNSET else self.lost.reserved.spending
        windows = with_begun(agent.windows, self.reset_at or {})
        return replace(agent, windows=windows).spending(after, spent)

    @property
    def _asked(self) -> AskedModel:
        reserved = self.reserved.spending
        return AskedModel(
            attempt=self.attempt, alias=self.alias, request=self.sha256, reserved=reserved, drawn=self.drawn
        )


class ModelCalled(AgentReport, frozen=True, kw_only=True):
    """A model was asked, and this came of it: an answer (docs/models.md), or if not `ok` the failure `{code, message}`.

    `sha256` is that of what the agent asks. Tokens and cost are those of all `attempts` the node made at endpoints,
    of which `endpoint` and its `model` made the last, at `price`; they are those reserved, and `estimated`, if nobody
    knows. `reserved` and `drawn` are as they were requested, and reserved no more. If `again`, the agent is not told:
    another attempt follows. Attempt 0 is one that was refused before it was requested; `lost` is then the one before,
    if nobody knows what came of that. `text` had been streamed by the agent when it asked, `streamed` is where the
    answer stands.
    """

    type: ClassVar[str] = "agent.model.called"
    execution_id: str
    call: int
    attempt: int
    alias: str
    sha256: str
    model: str | None
    endpoint: str | None
    input_tokens: Count
    cached_tokens: Count
    output_tokens: Count
    reasoning_tokens: Count
    estimated: bool
    cost_usd: Usd
    price: Price | None
    duration_seconds: float
    attempts: int
    finish_reason: FinishReason | None
    ok: bool
    result: Any
    reserved: Amount
    drawn: tuple[Drawn, ...] = ()
    cache_write_tokens: Count = 0
    again: bool = False
    lost: LostModelCall | UnsetType = UNSET
    text: SaidText | UnsetType = UNSET
    streamed: Streamed | UnsetType = UNSET

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """Once for each attempt."""
        execution = at_work(agent, self.execution_id, context)
        known = execution.journal.answer(self.call)
        if known is not None:
            if self.entry.is_same(known):
                return []
            raise Failure(ErrorCode.NONDETERMINISTIC_AGENT, f"call {self.call} is on record, and not as this says")
        asked = execution.asked_models.get(self.call)
        if not self.attempt:
            lost = None if asked is None else asked.lost(self.call)
            return [self if lost is None else replace(self, lost=lost)]
        if asked is None or asked.attempt != self.attempt:
            raise Failure(ErrorCode.INVALID_STATE, f"attempt {self.attempt} of call {self.call} is not under way")
        if asked.reserved is None and self.again:
            return []
        events = [*rolled_over(agent, context), self]
        return [*events, *warned(evolved(agent, events))]

    def evolve(self, agent: AgentState, /) -> AgentState:
        """What was reserved is settled; the answer stands in the journal, unless it is made again."""
        execution = agent.executions[self.execution_id]
        if self.again:
            asked = replace(execution.asked_models[self.call], reserved=None, drawn=())
            after = replace(execution, asked_models={**execution.asked_models, self.call: asked})
        else:
            after = execution.answered(self.entry)
        return agent.spending(after, self.spent)

    @property
    def usage(self) -> ModelUsage:
        """The tokens."""
        return ModelUsage(
            input_tokens=self.input_tokens,
            cached_tokens=self.cached_tokens,
            cache_write_tokens=self.cache_write_tokens,
            output_tokens=self.output_tokens,
            reasoning_tokens=self.reasoning_tokens,
            estimated=self.estimated,
        )

    @property
    def used(self) -> Spending:
        """What it took of what was reserved, or beyond."""
        return Spending(tokens=self.usage.tokens, cost=in_millionths(self.cost_usd))

    @property
    def spent(self) -> Spending:
        """The same, with an attempt that was lost."""
        return self.used if self.lost is UNSET else self.used + self.lost.reserved.spending

    @property
    def entry(self) -> JournalEntry:
        """As it stands in the journal, unless it is made `again`."""
        is_counted = self.ok and self.attempts == 1 and not self.estimated and self.model is not None
        return JournalEntry(
            call=self.call,
            kind=MODEL,
            request={"alias": self.alias, "sha256": self.sha256},
            ok=self.ok,
            result=self.result,
            text=self.text,
            streamed=self.streamed,
            counted=CountedInput(tokens=self.input_tokens, model=self.model or "") if is_counted else UNSET,
        )


def require_model(specification: AgentSpecification, alias: str) -> None:
    """Failure E2114 unless the agent may ask this model."""
    allowed = specification.allowed_models
    if alias in allowed:
        return
    said = ", ".join(allowed) if allowed else "none"
    raise Failure(
        ErrorCode.NOT_AUTHORIZED,
        f"the agent may not ask the model {alias[:128]!r}; its specification allows: {said} (`models: [alias]`)",
    )
