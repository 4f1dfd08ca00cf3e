"""What an agent's models have used of its own limits, as its events say."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import UNSET

from l02.domain.agent.execution import LostModelCall, lost_spending
from l02.domain.agent.resources import ResourceExceeded, ResourceWarned
from l02.domain.agent.work.blocking import QuotaReset
from l02.domain.agent.work.executions import ExecutionCompleted, ExecutionFailed
from l02.domain.agent.work.models import ModelCalled, ModelRequested
from l02.domain.kernel.message import Event
from l02.domain.specification import ResourceLimits
from l02.domain.spending.limits import OWN_LIMITS, LimitName
from l02.domain.spending.windows import (
    Window,
    Windows,
    with_begun,
    with_exceeded,
    with_other_amounts,
    with_reserved,
    with_settled,
    with_warned,
)
from l02.projections.folds.limits import Spent, spent_of, windows_of

OF_LIMITS = (
    ModelRequested,
    ModelCalled,
    ExecutionCompleted,
    ExecutionFailed,
    QuotaReset,
    ResourceWarned,
    ResourceExceeded,
)
"""The events that change what is spent."""


def spent_after(spent: Spent, event: Event, limits: ResourceLimits) -> Spent:
    """After an event."""
    return _seen(_changed(windows_of(spent), event), limits)


def spent_within(spent: Spent, limits: ResourceLimits) -> Spent:
    """After the limits were changed."""
    return _seen(with_other_amounts(windows_of(spent), limits.amounts), limits)


def _changed(windows: Windows, event: Event) -> Windows:
    match event:
        case ModelRequested():
            begun = with_begun(_lost(windows, () if event.lost is UNSET else (event.lost,)), event.reset_at or {})
            return with_reserved(begun, OWN_LIMITS, event.reserved.spending)
        case ModelCalled():
            settled = _lost(windows, () if event.lost is UNSET else (event.lost,))
            return with_settled(settled, OWN_LIMITS, event.reserved.spending, event.used)
        case ExecutionCompleted() | ExecutionFailed():
            return _lost(windows, event.lost or ())
        case QuotaReset():
            fresh = {limit: Window(reserved=windows.get(limit, Window()).reserved) for limit in event.usage}
            return with_begun({**windows, **fresh}, event.reset_at)
        case ResourceWarned(name=LimitName() as limit):
            return with_warned(windows, limit, event.threshold_percent / 100)
        case ResourceExceeded(name=LimitName() as limit):
            return with_exceeded(windows, limit)
        case _:
            return windows


def _lost(windows: Windows, calls: Iterable[LostModelCall]) -> Windows:
    gone = lost_spending(calls)
    return with_settled(windows, OWN_LIMITS, gone, gone) if gone else windows


def _seen(windows: Windows, limits: ResourceLimits) -> Spent:
    """Nothing, of an agent that has asked no model."""
    return spent_of(windows, limits.amounts, OWN_LIMITS) if windows else {}
