"""What becomes of a call of a model that does not fit into a limit, the agent's own or a budget's: the one place.

The agent decides it, and it is on record: it is told (E2072), or the call waits, and its agent with it if it is
suspended. Here the call is held until there is news of that. If its node dies meanwhile, the call is made again with
the agent's work, and meets what is on record then; that work goes on is decided where the agent is, whoever holds its
calls.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from msgspec import Struct

from l02.bus.background.news import News
from l02.bus.commands.react import EventReader
from l02.bus.connection.bus import Bus
from l02.bus.log.repository import Repository
from l02.bus.wire.codec import RecordedEvent
from l02.domain.agent.life.restarts import AgentFailed
from l02.domain.agent.life.termination import AgentTerminated
from l02.domain.agent.state import AgentState
from l02.domain.agent.work.blocking import BlockCall, BudgetDenied, BudgetGranted, QuotaReset
from l02.domain.agent.work.executions import ExecutionFailed
from l02.domain.agent.work.models import ModelCalled
from l02.domain.agent.work.own_limits import own_action, own_shortage
from l02.domain.agent.work.quotas import QuotaUpdated
from l02.domain.errors import ErrorCode, Failure
from l02.domain.inference import Spending
from l02.domain.spending.exhausted import Exhausted
from l02.domain.spending.limits import LimitAction
from l02.handlers.resources.budgets import Budgets
from l02.handlers.resources.resets import set_resets

_NEWS = (BudgetGranted, BudgetDenied, QuotaReset, QuotaUpdated, ExecutionFailed, AgentTerminated, AgentFailed)


class _News(News):
    """Of an agent some of whose calls are `held`."""

    held = 0


class _Held(Struct, frozen=True):
    """Whose call it is, and what it may need."""

    agent_id: str
    execution_id: str
    call: int
    needed: Spending


class LimitActions:
    """One per node."""

    def __init__(self, bus: Bus, reader: EventReader, agents: Repository[AgentState], budgets: Budgets) -> None:
        self._agents = agents
        self._budgets = budgets
        self._news: dict[str, _News] = {}
        self._listener = reader.listener("limits", _NEWS, self._heard)
        agents.on_recorded(self._recorded)
        agents.before_storing(partial(set_resets, bus))

    async def run(self, ready: Callable[[], None]) -> None:
        """Hear of what other nodes record, until cancelled."""
        await self._listener.listen(ready)

    async def met(self, agent_id: str, execution_id: str, call: int, needed: Spending, refused: Failure) -> None:
        """A call that may need so much was `refused` for a limit. When this returns, it may be tried again.

        Raises Failure: E2072 if the agent is to be told, E2112 if its work is over.
        """
        if not isinstance(refused, Exhausted):
            raise refused
        # A budget refuses who needs more than another with that one's words: what this call needs, this call says.
        said, limit = refused, refused.shortage.limit
        refused = Exhausted(refused.shortage._replace(needed=limit.of(needed)), refused.action, refused.budget)
        if refused.budget is not None and refused.shortage.is_passing:
            await self._budgets.room(said)
            return
        news = self._news.setdefault(agent_id, _News())
        news.held += 1
        try:
            await self._held(_Held(agent_id, execution_id, call, needed), refused, news)
        finally:
            news.held -= 1
            if not news.held:
                del self._news[agent_id]

    async def _held(self, held: _Held, refused: Exhausted, news: _News) -> None:
        told = news.pulse.next()
        own = refused.budget is None
        await self._agents.record(
            held.agent_id,
            BlockCall(
                execution_id=held.execution_id,
                call=held.call,
                needed=held.needed,
                budget=refused.budget,
                shortage=None if own else refused.shortage,
                action=refused.action,
            ),
        )
        has_waited = False
        while True:
            state = (await self._agents.known(held.agent_id, news.sequence)).state
            execution = state.executions.get(held.execution_id)
            if execution is None:
                raise Failure(ErrorCode.INVALID_STATE, f"execution {held.execution_id} is not under way any more")
            blocked = execution.blocked.get(held.call)
            if blocked is not None and blocked.denied_by is not None:
                why = f": {blocked.reason}" if blocked.reason else ""
                raise Failure(refused.code, f"{blocked.denied_by} has denied more{why}; {refused.message}")
            if blocked is None:
                if has_waited or (own and not _must_wait(state, held)):
                    return
                if not own or not _waits_for_others(state, held):
                    raise refused
            await told.wait()
            told, has_waited = news.pulse.next(), True

    def _recorded(self, recorded: RecordedEvent) -> None:
        """At once what was recorded here: so is all that an agent of this node does."""
        if isinstance(recorded.event, (*_NEWS, ModelCalled)):
            self._heard(recorded, True)

    def _heard(self, recorded: RecordedEvent, recorded_here: bool) -> None:
        news = self._news.get(recorded.aggregate.id) if recorded.aggregate.kind == "agent" else None
        if news is not None:
            news.tell(recorded.sequence)


def _must_wait(state: AgentState, held: _Held) -> bool:
    """Whether the agent's own limits are in the way as the agent is now."""
    short = own_shortage(state, held.execution_id, held.call, held.needed)
    return short is not None and own_action(state) is not LimitAction.WARN


def _waits_for_others(state: AgentState, held: _Held) -> bool:
    """Whether only what other calls of the agent have reserved is in the way: it is not said to wait for that."""
    short = own_shortage(state, held.execution_id, held.call, held.needed)
    return short is not None and short.is_passing
