"""What the client can say and ask about agents' limits, about what persons are asked, and about what was used."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from msgspec import UNSET, UnsetType

from l02.bus.commands.outcomes import Outcome
from l02.client.asking import Asking
from l02.domain.errors import ErrorCode, Failure
from l02.domain.identifiers import require_id
from l02.domain.inference import MAX_COUNT
from l02.domain.spending.limits import LimitAction, LimitName
from l02.domain.spending.money import in_millionths, in_usd
from l02.projections.folds.agents import AgentView
from l02.projections.folds.budgets import BudgetView
from l02.projections.folds.limits import LimitView
from l02.projections.folds.waiting import QuestionView, WaitView
from l02.projections.queries import Usage, UsageBy

_PAGE = 500


class LimitVerbs(Asking):
    """The verbs of the client that are about limits."""

    async def set_quota(
        self,
        id: str,
        *,
        tokens_per_hour: int | UnsetType | None = UNSET,
        tokens_per_day: int | UnsetType | None = UNSET,
        cost_per_day: float | UnsetType | None = UNSET,
        execution_seconds: float | UnsetType | None = UNSET,
        cpu: str | UnsetType = UNSET,
        memory: str | UnsetType = UNSET,
        action: LimitAction | str | UnsetType = UNSET,
        command_id: str | None = None,
    ) -> Outcome:
        """Change some of an agent's limits; None takes one away, and what is left out stays as it is.

        Costs are in USD. Raises Failure E2073 if the agent has ended, or the limits do not fit each other.
        """
        limits = {
            "tokens_per_hour": tokens_per_hour,
            "tokens_per_day": tokens_per_day,
            "cost_per_day": cost_per_day,
            "execution_seconds": execution_seconds,
            "cpu": cpu,
            "memory": memory,
        }
        fields: dict[str, Any] = {"limits": {name: value for name, value in limits.items() if value is not UNSET}}
        if action is not UNSET:
            fields["action"] = action
        return await self._send(id, "set-quota", fields, command_id)

    async def questions(self, *, limit: int = _PAGE, after: str | None = None) -> list[QuestionView]:
        """What persons are asked about at most `limit` agents with ids above `after`."""
        return await self._query("agent.questions", {"limit": limit, "after": after}, list[QuestionView])

    async def approve(
        self,
        id: str,
        execution_id: str,
        call: int,
        *,
        granted: bool = True,
        reason: str | None = None,
        command_id: str | None = None,
    ) -> Outcome:
        """Say yes or no to a tool's call that waits for a person, or no to one that waits for a limit; the agent is
        told the reason.
        """
        body = {"execution_id": execution_id, "call": call, "granted": granted, "reason": reason}
        return await self._send(id, "approve", body, command_id)

    async def grant(
        self,
        question: str,
        amount: float | None = None,
        *,
        how_long: Literal["window", "always"] = "window",
        reason: str | None = None,
    ) -> Outcome:
        """Say yes to a question, by its id: a tool may be called, or a limit is raised, by `amount` (tokens, or USD) or
        by as much as the call lacks.

        A budget is raised until it is reset, or for `always`; an agent's own limit is set higher, for always. Raises
        Failure E2112 if nobody asks that (any more).
        """
        if amount is not None and not 0 < amount < MAX_COUNT:
            raise Failure(ErrorCode.COMMAND_INVALID, "a limit is raised by more than nothing", "amount")
        agent, wait = await self._asked(question)
        if wait.kind == "person":
            return await self.approve(agent.id, wait.execution_id, wait.call, reason=reason)
        limit = wait.limit
        assert limit is not None, "what waits for a limit names it"
        if wait.budget is None:
            more = amount if amount is not None else _lacking(wait, limit, agent.spent.get(limit))
            raised = limit.said(agent.resource_limits.amounts.get(limit, 0)) + more
            return await self._send(agent.id, "set-quota", {"limits": {str(limit): _said(limit, raised)}}, None)
        if amount is None:
            budget = await self._query("budget.get", {"id": wait.budget}, BudgetView)
            amount = _lacking(wait, limit, budget.spent.get(limit))
        body = {"amount": {str(limit): _said(limit, amount)}, "for": how_long}
        return await self._send(wait.budget, "raise", body, None, kind="budget")

    async def deny(self, question: str, reason: str | None = None) -> Outcome:
        """Say no to a question, by its id: the call fails, and the agent is told the reason."""
        agent, wait = await self._asked(question)
        return await self.approve(agent.id, wait.execution_id, wait.call, granted=False, reason=reason)

    async def usage(
        self,
        by: UsageBy = "agent",
        *,
        since: datetime | None = None,
        id: str | None = None,
        limit: int = _PAGE,
        after: str | None = None,
    ) -> list[Usage]:
        """What models have used since the hour of `since`, or ever: by agent, fleet, budget or model, in the order of
        those names; of all agents, or of one.
        """
        wanted = {"by": by, "since": since, "id": id, "limit": limit, "after": after}
        return await self._query("usage.get", wanted, list[Usage])

    async def _asked(self, question: str) -> tuple[AgentView, WaitView]:
        agent = await self._query("agent.get", {"id": require_id(question.partition("/")[0], "question")}, AgentView)
        for wait in agent.waiting:
            if wait.question == question:
                return agent, wait
        raise Failure(ErrorCode.INVALID_STATE, f"nobody asks {question[:300]!r} now; see `l02 approve list`")


def _lacking(wait: WaitView, limit: LimitName, view: LimitView | None) -> float:
    """What the call needs beyond what is left."""
    needed = wait.needed_amount
    assert needed is not None, "it waits for a limit"
    left = 0 if view is None else view.left or 0
    if not limit.is_money:
        return max(1, needed.tokens - int(left))
    return in_usd(max(1, in_millionths(needed.cost_usd) - in_millionths(float(left))))


def _said(limit: LimitName, amount: float) -> float:
    """Costs to the millionth; tokens are whole."""
    return in_usd(in_millionths(float(amount))) if limit.is_money else int(amount)
