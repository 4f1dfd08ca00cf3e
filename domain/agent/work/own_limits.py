"""What an agent's own limits leave to its models: used is what was settled, reserved what open calls may come to."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from math import ceil

from msgspec import UNSET
from msgspec.structs import replace

from l02.domain.agent.execution import Execution
from l02.domain.agent.messages import AgentEvent
from l02.domain.agent.resources import ResourceExceeded, ResourceType, ResourceWarned
from l02.domain.agent.state import AgentState
from l02.domain.errors import ErrorCode
from l02.domain.inference import Spending
from l02.domain.spending.limits import DEFAULT_THRESHOLDS, OWN_LIMITS, LimitAction, LimitName
from l02.domain.spending.windows import Shortage, Window, Windows, crossed, shortage


def own_windows(agent: AgentState) -> Windows:
    """With what is reserved."""
    reserved = _reserved(agent.executions.values())
    return {
        limit: replace(agent.windows.get(limit, Window()), reserved=limit.of(reserved))
        for limit in OWN_LIMITS
        if limit in agent.windows or reserved
    }


def own_action(agent: AgentState) -> LimitAction:
    """What is done when a call does not fit."""
    action = agent.specification.resource_limits.action
    return LimitAction.SUSPEND if action is UNSET else action


def own_shortage(agent: AgentState, execution_id: str, call: int, needed: Spending) -> Shortage | None:
    """Which limit is in the way of a call; None if it fits. What an earlier attempt of it had reserved is gone."""
    asked = agent.executions[execution_id].asked_models.get(call)
    lost = Spending() if asked is None or asked.reserved is None else asked.reserved
    windows = {
        limit: replace(window, used=window.used + limit.of(lost), reserved=window.reserved - limit.of(lost))
        for limit, window in own_windows(agent).items()
    }
    return shortage(agent.specification.resource_limits.amounts, windows, needed)


def warned(agent: AgentState) -> list[AgentEvent]:
    """The warnings that are due."""
    limits = agent.specification.resource_limits
    amounts = limits.amounts
    thresholds = DEFAULT_THRESHOLDS if limits.warn_at is UNSET else limits.warn_at
    return [
        ResourceWarned(
            resource_type=_kind(limit),
            current_usage=limit.said(agent.windows[limit].used),
            limit=limit.said(amounts[limit]),
            threshold_percent=ceil(round(100 * threshold, 6)),
            name=limit,
            reset_at=agent.windows[limit].reset_at,
        )
        for limit, threshold in crossed(amounts, agent.windows, thresholds)
    ]


def exceeded(agent: AgentState, short: Shortage, action: LimitAction) -> list[AgentEvent]:
    """That a limit is in the way: once in a window."""
    limit = short.limit
    if agent.windows.get(limit, Window()).exceeded:
        return []
    return [
        ResourceExceeded(
            resource_type=_kind(limit),
            limit=limit.said(short.amount),
            actual=limit.said(short.amount - short.left + short.needed),
            action_taken=action.value,
            code=ErrorCode.TOKEN_BUDGET_EXCEEDED.value,
            name=limit,
            reset_at=short.reset_at,
        )
    ]


def evolved(agent: AgentState, events: Iterable[AgentEvent]) -> AgentState:
    """The agent after these."""
    return reduce(lambda state, event: event.evolve(state), events, agent)


def _reserved(executions: Iterable[Execution]) -> Spending:
    asked = (model for execution in executions for model in execution.asked_models.values())
    return sum((model.reserved for model in asked if model.reserved is not None), Spending())


def _kind(limit: LimitName) -> ResourceType:
    return "cost" if limit.is_money else "tokens"
