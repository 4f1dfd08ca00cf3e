"""What can be limited, and what becomes of who would spend more: the same words for an agent and for a budget."""

from __future__ import annotations

from enum import StrEnum
from itertools import pairwise
from typing import Annotated

from msgspec import Meta

from l02.domain.errors import ErrorCode, Failure
from l02.domain.inference import Spending
from l02.domain.spending.money import in_usd

# More than any budget has to be, and still a whole number to every reader of JSON.
Tokens = Annotated[int, Meta(ge=0, le=1_000_000_000_000_000)]
Fraction = Annotated[float, Meta(gt=0, lt=1)]
Thresholds = Annotated[tuple[Fraction, ...], Meta(max_length=100)]

DEFAULT_THRESHOLDS = (0.8, 0.9)

DEFAULT_TOKENS_PER_HOUR = 100_000
"""Of an agent whose specification and whose node's settings say nothing else."""

_HOUR = 3600.0
_DAY = 86_400.0


class LimitName(StrEnum):
    """What is limited."""

    TOKENS_PER_HOUR = "tokens_per_hour"
    TOKENS_PER_DAY = "tokens_per_day"
    COST_PER_DAY = "cost_per_day"
    COST_TOTAL = "cost_total"

    @property
    def is_money(self) -> bool:
        """Whether it limits a cost, and not a number of tokens."""
        return self in (LimitName.COST_PER_DAY, LimitName.COST_TOTAL)

    @property
    def seconds(self) -> float | None:
        """How long its window is, in seconds; None if it is for ever."""
        return {LimitName.TOKENS_PER_HOUR: _HOUR, LimitName.COST_TOTAL: None}.get(self, _DAY)

    def of(self, spending: Spending) -> int:
        """What it limits of that: tokens, or millionths of a dollar."""
        return spending.cost if self.is_money else spending.tokens

    def said(self, amount: int) -> int | float:
        """An amount of it as it stands on the wire: tokens, or USD."""
        return in_usd(amount) if self.is_money else amount


OWN_LIMITS = (LimitName.TOKENS_PER_HOUR, LimitName.TOKENS_PER_DAY, LimitName.COST_PER_DAY)
"""Those that an agent has of its own; of a cost in all only budgets have one."""


class LimitAction(StrEnum):
    """What becomes of who would spend more than there is."""

    WARN = "warn"
    REFUSE = "refuse"
    THROTTLE = "throttle"
    SUSPEND = "suspend"
    ASK = "ask"
    TERMINATE = "terminate"


def require_ascending(thresholds: tuple[float, ...], path: str) -> None:
    """Raise E2110 for thresholds that are not in order."""
    if any(later <= earlier for earlier, later in pairwise(thresholds)):
        raise Failure(ErrorCode.COMMAND_INVALID, "the thresholds must ascend, as in [0.8, 0.9]", path)
