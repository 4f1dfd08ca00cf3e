"""What models have used, hour by hour: by agent, by the budget that was drawn on first, and by model."""

from __future__ import annotations

from datetime import datetime

from msgspec import UNSET, Struct

from l02.bus.wire.codec import RecordedEvent
from l02.domain.agent.execution import LostModelCall, lost_spending
from l02.domain.agent.work.executions import ExecutionCompleted, ExecutionFailed
from l02.domain.agent.work.models import ModelCalled, ModelRequested
from l02.domain.inference import ModelUsage, Spending
from l02.domain.kernel.message import Event
from l02.domain.spending.money import in_millionths, in_usd
from l02.projections.folds.fold import Fold, Key, ViewOutOfStep, utc

NO_BUDGET = ""
_MAX_NAME_CHARACTERS = 128


class UsageView(Struct, frozen=True, kw_only=True):
    """What an agent has used of a model in an hour, that began at `hour`, and drawn from a budget; `budget` is empty if
    it draws on none.

    `model` is the provider's name for it, the alias if that is not known. `calls` are attempts to have an answer; of
    those whose end nobody knows (`lost`) what was reserved is charged, as input. `cached_tokens` are part of
    `input_tokens`, `reasoning_tokens` of `output_tokens`.
    """

    agent_id: str
    budget: str
    model: str
    hour: datetime
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: float = 0.0
    calls: int = 0
    lost: int = 0
    sequence: int


def project_usage(view: UsageView | None, recorded: RecordedEvent) -> UsageView:
    """The row after one more event that its key is of."""
    found = _found(recorded.event)
    if found is None:
        raise ViewOutOfStep(recorded, 0)
    budget, model, usage, spent, calls, lost = found
    hour = utc(recorded.time).replace(minute=0, second=0, microsecond=0)
    before = view or UsageView(
        agent_id=recorded.aggregate.id, budget=budget, model=model, hour=hour, sequence=recorded.sequence
    )
    return UsageView(
        agent_id=before.agent_id,
        budget=before.budget,
        model=before.model,
        hour=before.hour,
        input_tokens=before.input_tokens + usage.input_tokens,
        cached_tokens=before.cached_tokens + usage.cached_tokens,
        output_tokens=before.output_tokens + usage.output_tokens,
        reasoning_tokens=before.reasoning_tokens + usage.reasoning_tokens,
        cost_usd=in_usd(in_millionths(before.cost_usd) + spent.cost),
        calls=before.calls + calls,
        lost=before.lost + lost,
        sequence=recorded.sequence,
    )


_Found = tuple[str, str, ModelUsage, Spending, int, int]


def _found(event: Event) -> _Found | None:
    """The budget, the model, what was used and what that cost, the calls and the lost ones that an event tells of."""
    match event:
        case ModelCalled():
            lost = () if event.lost is UNSET else (event.lost,)
            if not event.attempt and not lost:  # refused before anything was asked
                return None
            usage, gone = event.usage, lost_spending(lost)
            usage = ModelUsage(
                input_tokens=usage.input_tokens + gone.tokens,
                cached_tokens=usage.cached_tokens,
                output_tokens=usage.output_tokens,
                reasoning_tokens=usage.reasoning_tokens,
            )
            drawn = event.drawn or (lost[0].drawn if lost else ())
            budget = drawn[0].budget if drawn else NO_BUDGET
            calls = int(event.attempt > 0) + len(lost)
            return _name(budget), _name(event.model or event.alias), usage, event.used + gone, calls, len(lost)
        case ModelRequested() if event.lost is not UNSET:
            return _found_lost((event.lost,))
        case ExecutionCompleted() | ExecutionFailed() if event.lost:
            return _found_lost(event.lost)
        case _:
            return None


def _found_lost(lost: tuple[LostModelCall, ...]) -> _Found:
    """Of calls that are lost together, all stand under the first one's names."""
    first, gone = lost[0], lost_spending(lost)
    budget = first.drawn[0].budget if first.drawn else NO_BUDGET
    return _name(budget), _name(first.alias), ModelUsage(input_tokens=gone.tokens), gone, len(lost), len(lost)


def _name(text: str) -> str:
    return text[:_MAX_NAME_CHARACTERS].replace("\0", "\N{REPLACEMENT CHARACTER}")


def _key(recorded: RecordedEvent) -> Key | None:
    if recorded.aggregate.kind != "agent":
        return None
    found = _found(recorded.event)
    return None if found is None else (recorded.aggregate.id, found[0], found[1], f"{utc(recorded.time):%Y-%m-%dT%HZ}")


USAGE_FOLD = Fold(view=UsageView, key=_key, project=project_usage)
