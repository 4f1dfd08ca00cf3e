"""What the settings say about limits, for agents whose specification says nothing."""

from __future__ import annotations

from dataclasses import dataclass

from l02.domain.spending.limits import DEFAULT_THRESHOLDS, DEFAULT_TOKENS_PER_HOUR, LimitAction


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceSettings:
    """Tokens an hour, what is done at a limit, and the parts of it at which somebody is warned.

    What agents use is recorded every `usage_report_interval_seconds`, if it has moved.
    """

    tokens_per_hour: int = DEFAULT_TOKENS_PER_HOUR
    token_budget_action: LimitAction = LimitAction.SUSPEND
    warn_at: tuple[float, ...] = DEFAULT_THRESHOLDS
    usage_report_interval_seconds: float = 60
