"""There is not enough left for what is to be spent: whose limit is in the way, and what is to become of it."""

from __future__ import annotations

from l02.domain.errors import ErrorCode, Failure
from l02.domain.spending.limits import LimitAction, LimitName
from l02.domain.spending.money import in_usd
from l02.domain.spending.windows import Shortage


class Exhausted(Failure):
    """Failure E2072. `budget` is the one whose limit is in the way, None for the agent's own."""

    def __init__(self, shortage: Shortage, action: LimitAction, budget: str | None = None) -> None:
        super().__init__(ErrorCode.TOKEN_BUDGET_EXCEEDED, _words(shortage, budget))
        self.shortage = shortage
        self.action = action
        self.budget = budget


def _words(shortage: Shortage, budget: str | None) -> str:
    limit = shortage.limit
    whose = "the agent's own" if budget is None else f"budget {budget!r}, its"
    advice = "`l02 set-quota ID` raises it" if budget is None else f"`l02 budget raise {budget}` raises it"
    needed, amount, left = (said_amount(limit, item) for item in (shortage.needed, shortage.amount, shortage.left))
    text = f"the call needs up to {needed}, and {whose} {limit} of {amount}"
    if not shortage.could_fit:
        return f"{text} can never hold that; ask for less (`max_tokens`), or {advice}"
    when = "" if shortage.reset_at is None else f" until {utc_text(shortage.reset_at)}"
    return f"{text} has {left} left{when}; {advice}"


def said_amount(limit: LimitName, amount: int) -> str:
    """An amount of a limit in words."""
    return f"{in_usd(amount):,.6g} USD" if limit.is_money else f"{amount:,} tokens"


def utc_text(moment: float) -> str:
    """A time in seconds since 1970 as people read it. By arithmetic, as no clock belongs here.

    The days are Howard Hinnant's `civil_from_days`: years that begin in March, in eras of 400.
    """
    days, seconds = divmod(int(moment), 86_400)
    era, day_of_era = divmod(days + 719_468, 146_097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    months = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * months + 2) // 5 + 1
    month = months + 3 if months < 10 else months - 9
    year = year_of_era + era * 400 + (month <= 2)
    minutes, second = divmod(seconds, 60)
    return f"{year:04}-{month:02}-{day:02} {minutes // 60:02}:{minutes % 60:02}:{second:02} UTC"
