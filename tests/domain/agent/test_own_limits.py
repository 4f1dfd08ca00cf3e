"""An agent's own limits over any order of calls, deaths, resets and changes: they hold, and are what a replay gives."""

from __future__ import annotations

from functools import reduce
from typing import Any

from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from msgspec.structs import replace

from l02.domain.agent.execution import Execution
from l02.domain.agent.messages import AgentEvent
from l02.domain.agent.state import AgentState
from l02.domain.agent.work.blocking import BlockCall, QuotaResetDue
from l02.domain.agent.work.executions import ExecutionFailed
from l02.domain.agent.work.own_limits import own_windows
from l02.domain.agent.work.quotas import LimitChanges, QuotaUpdated, SetQuota
from l02.domain.aggregates import AGENT
from l02.domain.errors import Failure
from l02.domain.inference import Spending
from l02.domain.kernel.message import Command, Event, Report
from l02.domain.kernel.states import encode_state, state_decoder
from l02.domain.spending.amounts import Amount
from l02.domain.spending.exhausted import Exhausted
from l02.domain.spending.limits import OWN_LIMITS, LimitAction, LimitName
from tests.domain.agent.story import ASKING, model_called, model_requested, resumed, started
from tests.domain.given_when_then import context

HOUR, DAY, COST = OWN_LIMITS
_LENGTH = {HOUR: 3600.0, DAY: 86_400.0, COST: 86_400.0}


class _Book:
    """A plain record beside it: what every attempt has used, and in which windows that counts."""

    def __init__(self) -> None:
        self.begins: dict[LimitName, float | None] = dict.fromkeys(OWN_LIMITS)
        self.used = dict.fromkeys(OWN_LIMITS, 0)
        self.open: dict[tuple[str, int], Spending] = {}

    def at(self, now: float) -> None:
        for limit, began in self.begins.items():
            if began is not None and now >= began + _LENGTH[limit]:
                self.begins[limit] = now if self.open else None
                self.used[limit] = 0

    def request(self, key: tuple[str, int], needed: Spending, now: float) -> None:
        lost = self.open.pop(key, Spending())
        self.charge(lost)
        self.open[key] = needed
        for limit, began in self.begins.items():
            self.begins[limit] = now if began is None else began

    def charge(self, used: Spending) -> None:
        for limit in OWN_LIMITS:
            self.used[limit] += limit.of(used)


class _Agent:
    """Decides and folds, and remembers all events."""

    def __init__(self) -> None:
        self.events: list[Event] = list(ASKING)
        self.state: AgentState = reduce(AGENT.evolve, self.events, AGENT.initial_state())
        self.now = 1000.0

    def ask(self, command: Command | Report) -> list[Event] | Failure:
        try:
            events = AGENT.decide(self.state, command, context(time=self.now))
        except Failure as failure:
            return failure
        self.events += events
        self.state = reduce(AGENT.evolve, events, self.state)
        return events


steps = st.one_of(
    st.tuples(st.just("request"), st.integers(1, 3), st.integers(0, 60)),
    st.tuples(st.just("settle"), st.integers(1, 3), st.integers(0, 100)),
    st.tuples(st.just("wait"), st.integers(1, 3), st.sampled_from([0, 1800, 3600, 90_000])),
    st.tuples(st.just("timer"), st.integers(1, 3), st.just(0)),
    st.tuples(st.just("limit"), st.integers(1, 3), st.integers(0, 150)),
    st.tuples(st.just("die"), st.integers(1, 3), st.just(0)),
)


@settings(max_examples=300)
@for_all(st.lists(steps, max_size=50), st.sampled_from([LimitAction.SUSPEND, LimitAction.THROTTLE]))
def test_they_hold_whatever_happens_and_in_which_order(done: list[tuple[str, int, int]], action: LimitAction) -> None:
    agent, book, execution_id = _Agent(), _Book(), "x1"
    agent.ask(
        SetQuota(limits=LimitChanges(tokens_per_hour=100, tokens_per_day=150, cost_per_day=0.0003), action=action)
    )
    attempts: dict[tuple[str, int], int] = {}
    for step, call, number in done:
        key = (execution_id, call)
        if agent.state.is_suspended and step in ("request", "die"):
            step = "wait"
        match step:
            case "request":
                needed = Spending(tokens=number, cost=2 * number)
                if execution_of(agent, execution_id).has_recorded(call):
                    continue
                attempts[key] = attempts.get(key, 0) + 1
                request = replace(
                    model_requested(call, attempts[key]), execution_id=execution_id, reserved=Amount.of(needed)
                )
                answer = agent.ask(request)
                if isinstance(answer, Exhausted):
                    attempts[key] -= 1
                    blocked = agent.ask(BlockCall(execution_id=execution_id, call=call, needed=needed))
                    assert isinstance(blocked, list)
                    if reset_in(blocked):
                        book.at(agent.now)
                    assert_waits_for_a_reason(agent.state)
                else:
                    assert isinstance(answer, list), answer
                    book.at(agent.now)
                    book.request(key, needed, agent.now)
            case "settle":
                if key not in book.open:
                    continue
                used = Spending(tokens=book.open[key].tokens * number // 100, cost=book.open[key].cost * number // 100)
                called = replace(
                    model_called(call, attempts[key]),
                    execution_id=execution_id,
                    input_tokens=used.tokens,
                    output_tokens=0,
                    cost_usd=used.cost / 1_000_000,
                )
                answer = agent.ask(called)
                assert isinstance(answer, list)
                again = agent.ask(called)
                assert again == [], "a call that is recorded twice is charged once"
                book.at(agent.now)
                del book.open[key]
                book.charge(used)
            case "wait":
                agent.now += number
                continue
            case "timer":
                due = min((w.reset_at for w in agent.state.windows.values() if w.reset_at is not None), default=None)
                if due is None or due > agent.now:
                    continue
                agent.ask(QuotaResetDue(at=due))
                book.at(agent.now)
            case "limit":
                changed = agent.ask(SetQuota(limits=LimitChanges(tokens_per_hour=number)))
                if isinstance(changed, list) and any(isinstance(event, QuotaUpdated) for event in changed):
                    book.at(agent.now)
            case "die":
                agent.ask(ExecutionFailed(execution_id=execution_id, code="E2005", message="it died"))
                book.charge(sum(book.open.values(), Spending()))
                book.open.clear()
                execution_id = f"x{len(agent.events)}"
                agent.events.append(started(execution_id))
                agent.state = AGENT.evolve(agent.state, started(execution_id))
        windows = own_windows(agent.state)
        for limit in OWN_LIMITS:
            window = windows.get(limit)
            assert (0 if window is None else window.used) == book.used[limit], (limit, step)
            open_now = sum(limit.of(needed) for needed in book.open.values())
            assert (0 if window is None else window.reserved) == open_now
            assert window is None or window.reset_at is not None or not (window.used or window.reserved)
    assert_replayed(agent)


def execution_of(agent: _Agent, execution_id: str) -> Execution:
    return agent.state.executions[execution_id]


def reset_in(events: list[Any]) -> bool:
    return any(event.type == "agent.quota.reset" for event in events)


def assert_waits_for_a_reason(after: AgentState) -> None:
    """One that is suspended for a limit has a call that waits, and a moment at which that is looked at again."""
    if after.waits_for_budget:
        assert any(after.blocked_calls())
        assert all(after.windows[blocked.limit].reset_at is not None for _, _, blocked in after.blocked_calls()), (
            "what waits for a reset has one to come"
        )


def assert_replayed(agent: _Agent) -> None:
    """Folded anew from its events, or from a state that was kept on the way, it is the same."""
    anew = reduce(AGENT.evolve, agent.events, AGENT.initial_state())
    assert encode_state(anew) == encode_state(agent.state)
    half = len(agent.events) // 2
    kept = reduce(AGENT.evolve, agent.events[:half], AGENT.initial_state())
    read = state_decoder(AgentState).decode(encode_state(kept))
    assert encode_state(reduce(AGENT.evolve, agent.events[half:], read)) == encode_state(agent.state)


@for_all(st.lists(st.integers(1, 60), min_size=1, max_size=30))
def test_calls_that_are_open_together_never_reserve_more_than_there_is(needs: list[int]) -> None:
    agent = _Agent()
    agent.ask(SetQuota(limits=LimitChanges(tokens_per_hour=100), action=LimitAction.REFUSE))
    for call, tokens in enumerate(needs, start=1):
        request = replace(model_requested(call), reserved=Amount(tokens=tokens, cost_usd=0))
        reserved = own_windows(agent.state)[HOUR].reserved if HOUR in own_windows(agent.state) else 0
        answer = agent.ask(request)
        assert isinstance(answer, Exhausted) == (reserved + tokens > 100)
    assert own_windows(agent.state)[HOUR].reserved <= 100


def test_resumed_by_hand_it_meets_the_same_limit() -> None:
    agent = _Agent()
    agent.ask(SetQuota(limits=LimitChanges(tokens_per_hour=6_000)))
    assert isinstance(agent.ask(model_requested(1)), list)
    assert isinstance(agent.ask(model_called(1)), list)
    agent.ask(BlockCall(execution_id="x1", call=2, needed=Spending(tokens=5_000)))
    assert agent.state.waits_for_budget
    agent.state = AGENT.evolve(agent.state, resumed())
    assert isinstance(agent.ask(model_requested(2)), Exhausted)
    again: list[AgentEvent] | Any = agent.ask(BlockCall(execution_id="x1", call=2, needed=Spending(tokens=5_000)))
    assert agent.state.waits_for_budget, again
