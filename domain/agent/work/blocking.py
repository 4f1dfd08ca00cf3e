"""A call that does not fit into a limit: what becomes of it and its agent, and when it may be tried again."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

from msgspec import field
from msgspec.structs import replace

from l02.domain.agent.execution import Blocked, Execution
from l02.domain.agent.life.suspension import resumed, suspended
from l02.domain.agent.life.termination import TerminationRequested
from l02.domain.agent.messages import AgentEvent, AgentTimerCommand, NodeCommand
from l02.domain.agent.state import BUDGET, AgentState
from l02.domain.agent.work.effects import at_work
from l02.domain.agent.work.own_limits import evolved, exceeded, own_action, own_shortage, own_windows
from l02.domain.inference import Spending
from l02.domain.kernel.message import Context
from l02.domain.spending.amounts import Amount
from l02.domain.spending.limits import OWN_LIMITS, LimitAction, LimitName
from l02.domain.spending.windows import Shortage, Window, beginning, over, with_begun

Level = Literal["own", "budget"]
_WAITS = (LimitAction.THROTTLE, LimitAction.SUSPEND, LimitAction.ASK)


class BlockCall(NodeCommand, frozen=True, kw_only=True):
    """A call may need `needed`, and a limit has not got it: that of `budget`, with its `shortage` and `action`, or the
    agent's own, which is looked at here.
    """

    execution_id: str
    call: int
    needed: Spending
    budget: str | None = None
    shortage: Shortage | None = None
    action: LimitAction = LimitAction.REFUSE

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """What the action says. Nothing to wait for if there is room by now, or is when what is reserved comes back."""
        execution = at_work(agent, self.execution_id, context)
        events = rolled_over(agent, context)
        agent = evolved(agent, events)
        short, action = self.shortage, self.action
        if self.budget is None:
            short, action = own_shortage(agent, self.execution_id, self.call, self.needed), own_action(agent)
            if short is None or short.is_passing or action is LimitAction.WARN:
                return events
            events += exceeded(agent, short, action)
        if short is None or not short.could_fit:
            return events
        if action is LimitAction.TERMINATE and agent.is_live:
            return [*events, TerminationRequested(reason="resource_exceeded", requested_by=f"limit/{short.limit}")]
        known = execution.blocked.get(self.call)
        if action not in _WAITS or (known is not None and known.denied_by is not None):
            return events
        waits = BudgetWaiting(
            execution_id=self.execution_id,
            call=self.call,
            budget=self.budget,
            level=_level(self.budget),
            limit=short.limit,
            needed=Amount.of(self.needed),
            action=action,
            reset_at=short.reset_at,
        )
        if known != waits.blocked:
            events.append(waits)
        if action is not LimitAction.THROTTLE and agent.may_act:
            events += suspended(agent, BUDGET, context.command_id, context.node_id)
        return events


class BudgetWaiting(AgentEvent, frozen=True, kw_only=True):
    """A call waits, since a `limit` has not got what it may need until `reset_at` (seconds since 1970, null if it is
    not reset by itself): the agent's own (`level` `own`), or that of `budget`. If `action` is `ask`, a person is asked.
    """

    type: ClassVar[str] = "agent.budget.waiting"
    execution_id: str
    call: int
    budget: str | None
    level: Level
    limit: LimitName
    needed: Amount
    action: LimitAction
    reset_at: float | None

    @property
    def blocked(self) -> Blocked:
        """As the state has it."""
        return Blocked(budget=self.budget, limit=self.limit, needed=self.needed, action=self.action)

    def evolve(self, agent: AgentState, /) -> AgentState:
        """It waits."""
        return _with(agent, self.execution_id, self.call, self.blocked)


class BudgetGranted(AgentEvent, frozen=True, kw_only=True):
    """A call that has waited for a limit is tried again: `by` has raised it or changed what is done at it, or it was
    reset (`by` is null). `granted` is what was added, if it is known: tokens, or USD.
    """

    type: ClassVar[str] = "agent.budget.granted"
    execution_id: str
    call: int
    budget: str | None
    level: Level
    limit: LimitName
    needed: Amount
    granted: float | None
    by: str | None

    def evolve(self, agent: AgentState, /) -> AgentState:
        """It waits no more."""
        return _with(agent, self.execution_id, self.call, None)


class BudgetDenied(AgentEvent, frozen=True, kw_only=True):
    """A person, `by`, has said that a call which has waited for a limit gets no more: it fails with E2072."""

    type: ClassVar[str] = "agent.budget.denied"
    execution_id: str
    call: int
    budget: str | None
    level: Level
    limit: LimitName
    by: str
    reason: str | None

    def evolve(self, agent: AgentState, /) -> AgentState:
        """Its answer is known."""
        blocked = agent.executions[self.execution_id].blocked[self.call]
        return _with(agent, self.execution_id, self.call, replace(blocked, denied_by=self.by, reason=self.reason))


class QuotaReset(AgentEvent, frozen=True, kw_only=True):
    """Windows of the agent's own limits are over. `usage` is what was used in each: tokens, or USD. `limits` are those
    that it has. `reset_at` is when the next one of each is over (seconds since 1970), if that began at once, since
    something is reserved.
    """

    type: ClassVar[str] = "agent.quota.reset"
    limits: dict[LimitName, float]
    usage: dict[LimitName, float]
    reset_at: dict[LimitName, float]

    def evolve(self, agent: AgentState, /) -> AgentState:
        """Nothing is used of them."""
        fresh = {**agent.windows, **{limit: Window() for limit in self.usage}}
        return replace(agent, windows=with_begun(fresh, self.reset_at))


class QuotaResetDue(AgentTimerCommand, frozen=True, kw_only=True):
    """The windows that end `at` this time (seconds since 1970) are over."""

    verb: ClassVar[str] = "quota-reset-due"
    at: float

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """If nobody has come first. The timer is believed, whatever this node's clock says."""
        if not agent.is_live:
            return []
        return rolled_over(agent, replace(context, time=max(self.at, context.time)))


class BudgetChanged(AgentTimerCommand, frozen=True, kw_only=True):
    """A budget allows something else than before: calls that wait for it are tried again, or `denied`, `by` somebody.

    `granted` is what was added to each limit, if that has happened.
    """

    verb: ClassVar[str] = "budget-changed"
    budget: str
    by: str | None = None
    granted: dict[LimitName, float] = field(default_factory=dict)
    denied: bool = False

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """Those that wait for it."""
        if not agent.is_live:
            return []
        events: list[AgentEvent] = []
        for execution, call, blocked in agent.blocked_calls():
            if blocked.budget != self.budget or blocked.denied_by is not None:
                continue
            if not self.denied:
                events.append(_granted(execution, call, blocked, self.granted.get(blocked.limit), self.by))
            elif blocked.asks:
                events.append(denied(execution, call, blocked, self.by or "", None))
        return gone_on(agent, events, context)


def rolled_over(agent: AgentState, context: Context) -> list[AgentEvent]:
    """The windows that are over by now are reset, and what waits for them is tried again."""
    limits = over(agent.windows, context.time)
    if not limits:
        return []
    fresh = {**agent.windows, **{limit: Window() for limit in limits}}
    is_reserved = any(window.reserved for window in own_windows(agent).values())
    amounts = agent.specification.resource_limits.amounts
    reset = QuotaReset(
        limits={limit: limit.said(amounts[limit]) for limit in limits if limit in amounts},
        usage={limit: limit.said(agent.windows[limit].used) for limit in limits},
        reset_at=beginning(fresh, limits, context.time) if is_reserved else {},
    )
    return [reset, *freed(reset.evolve(agent), context, None)]


def freed(
    agent: AgentState,
    context: Context,
    by: str | None,
    granted: Callable[[LimitName], float | None] = lambda limit: None,
    *,
    action_changed: bool = False,
) -> list[AgentEvent]:
    """The calls that have waited for the agent's own limits, and need not any more: they fit, or never will."""
    events: list[AgentEvent] = []
    for execution, call, blocked in agent.blocked_calls():
        if blocked.budget is not None or blocked.denied_by is not None:
            continue
        short = own_shortage(agent, execution.execution_id, call, blocked.needed.spending)
        if action_changed or short is None or not short.could_fit:
            events.append(_granted(execution, call, blocked, granted(blocked.limit), by))
    return gone_on(agent, events, context)


def gone_on(agent: AgentState, events: list[AgentEvent], context: Context) -> list[AgentEvent]:
    """These, and if the agent is suspended for what they end, it has a process again."""
    return [*events, resumed(agent, context.node_id)] if events and agent.waits_for_budget else events


def denied(execution: Execution, call: int, blocked: Blocked, by: str, reason: str | None) -> BudgetDenied:
    """A person says no."""
    return BudgetDenied(
        execution_id=execution.execution_id,
        call=call,
        budget=blocked.budget,
        level=_level(blocked.budget),
        limit=blocked.limit,
        by=by,
        reason=reason,
    )


def begun(agent: AgentState, context: Context) -> dict[LimitName, float]:
    """The windows that begin with a call, each with when it is over."""
    return beginning(agent.windows, OWN_LIMITS, context.time)


def _granted(execution: Execution, call: int, blocked: Blocked, granted: float | None, by: str | None) -> BudgetGranted:
    return BudgetGranted(
        execution_id=execution.execution_id,
        call=call,
        budget=blocked.budget,
        level=_level(blocked.budget),
        limit=blocked.limit,
        needed=blocked.needed,
        granted=granted,
        by=by,
    )


def _level(budget: str | None) -> Level:
    return "own" if budget is None else "budget"


def _with(agent: AgentState, execution_id: str, call: int, blocked: Blocked | None) -> AgentState:
    execution = agent.executions[execution_id]
    calls = {other: one for other, one in execution.blocked.items() if other != call}
    if blocked is not None:
        calls[call] = blocked
    return replace(agent, executions={**agent.executions, execution_id: replace(execution, blocked=calls)})
