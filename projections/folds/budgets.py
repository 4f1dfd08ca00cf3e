"""What people ask about a budget: what it allows, within what, and what happens at its limits."""

from __future__ import annotations

from datetime import datetime

from msgspec import UNSET, Struct, UnsetType

from l02.bus.wire.codec import RecordedEvent
from l02.domain.budget.configuring import BudgetConfigured
from l02.domain.budget.state import BudgetLimits
from l02.domain.spending.limits import LimitAction
from l02.projections.folds.fold import Fold, ViewOutOfStep, utc


class BudgetView(Struct, frozen=True, kw_only=True):
    """A budget as of stream sequence `sequence`. `version` counts its events, and `created_at` is the first one's time.

    `halted_at` is the sequence of a message among its events that cannot be taken in, if there is one.
    """

    id: str
    limits: BudgetLimits
    parent: str | None
    action: LimitAction
    warn_at: tuple[float, ...]
    created_at: datetime
    updated_at: datetime
    version: int
    sequence: int
    halted_at: int | UnsetType = UNSET


def project_budget(view: BudgetView | None, recorded: RecordedEvent) -> BudgetView:
    """The view after one more of the budget's events, which must be the next. Raises ViewOutOfStep if it is not."""
    held = view.version if view is not None else 0
    event, time = recorded.event, utc(recorded.time)
    if recorded.version != held + 1 or not isinstance(event, BudgetConfigured):
        raise ViewOutOfStep(recorded, held)
    return BudgetView(
        id=recorded.aggregate.id,
        limits=event.limits,
        parent=event.parent,
        action=event.action,
        warn_at=event.warn_at,
        created_at=time if view is None else view.created_at,
        updated_at=time,
        version=recorded.version,
        sequence=recorded.sequence,
    )


BUDGET_FOLD = Fold(view=BudgetView, project=project_budget, kind="budget")
