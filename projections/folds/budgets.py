"""What people ask about a budget: what it allows and what is left of that, and to whom it has lent what."""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec import UNSET, Struct, UnsetType

from l02.bus.wire.codec import RecordedEvent
from l02.domain.budget.configuring import BudgetConfigured
from l02.domain.budget.messages import BudgetEvent
from l02.domain.budget.state import BudgetLimits, BudgetState, Slice, amounts, limits_of
from l02.domain.spending.amounts import Amount
from l02.domain.spending.limits import LimitAction, LimitName
from l02.projections.folds.fold import Fold, ViewOutOfStep, utc
from l02.projections.folds.limits import LimitView, spent_of, windows_of


class SliceView(Struct, frozen=True, kw_only=True):
    """What is lent to the node `holder`: `held` may still be spent, `used` was. `sequence` is that of the loan."""

    holder: str
    held: Amount
    used: Amount
    until: datetime
    recalled: bool
    sequence: int


class BudgetView(Struct, frozen=True, kw_only=True):
    """A budget as of stream sequence `sequence`. `version` counts its events, and `created_at` is the first one's time.

    `limits` is what is configured, `raised` what was added until a limit is reset. `halted_at` is the sequence of a
    message among its events that cannot be taken in, if there is one.
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
    raised: BudgetLimits = BudgetLimits()
    spent: dict[LimitName, LimitView] = {}
    slices: dict[str, SliceView] = {}
    denied: bool = False
    halted_at: int | UnsetType = UNSET


def project_budget(view: BudgetView | None, recorded: RecordedEvent) -> BudgetView:
    """The view after one more of the budget's events, which must be the next. Raises ViewOutOfStep if it is not."""
    held = view.version if view is not None else 0
    event, time = recorded.event, utc(recorded.time)
    follows = recorded.version == held + 1 and (view is not None or isinstance(event, BudgetConfigured))
    if not follows or not isinstance(event, BudgetEvent):
        raise ViewOutOfStep(recorded, held)
    budget = event.evolve(_state(view) if view is not None else BudgetState())
    lent_at = {name: item.sequence for name, item in view.slices.items()} if view is not None else {}
    return BudgetView(
        id=recorded.aggregate.id,
        limits=limits_of(budget.limits),
        parent=budget.parent,
        action=budget.action,
        warn_at=budget.warn_at,
        created_at=time if view is None else view.created_at,
        updated_at=time,
        version=recorded.version,
        sequence=recorded.sequence,
        raised=limits_of(budget.raised),
        spent=spent_of(budget.windows, budget.allowed, LimitName),
        slices={name: _slice_view(lent, lent_at.get(name, recorded.sequence)) for name, lent in budget.slices.items()},
        denied=budget.denied,
    )


def _slice_view(lent: Slice, sequence: int) -> SliceView:
    return SliceView(
        holder=lent.holder,
        held=Amount.of(lent.held),
        used=Amount.of(lent.used),
        until=datetime.fromtimestamp(lent.until, UTC),
        recalled=lent.recalled,
        sequence=sequence,
    )


def _state(view: BudgetView) -> BudgetState:
    """The budget that has this view."""
    return BudgetState(
        exists=True,
        limits=amounts(view.limits),
        parent=view.parent,
        action=view.action,
        warn_at=view.warn_at,
        raised=amounts(view.raised),
        windows=windows_of(view.spent),
        slices={
            name: Slice(
                holder=item.holder,
                until=item.until.timestamp(),
                held=item.held.spending,
                used=item.used.spending,
                recalled=item.recalled,
            )
            for name, item in view.slices.items()
        },
        denied=view.denied,
    )


BUDGET_FOLD = Fold(view=BudgetView, project=project_budget, kind="budget")
