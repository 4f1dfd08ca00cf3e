"""What is said to who would spend more than there is."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from l02.domain.errors import ErrorCode
from l02.domain.spending.exhausted import Exhausted, utc_text
from l02.domain.spending.limits import LimitAction, LimitName
from l02.domain.spending.windows import Shortage


def test_it_names_the_limit_what_is_left_and_until_when() -> None:
    shortage = Shortage(LimitName.TOKENS_PER_HOUR, 1000, 900, 800, 200, 1_800_000_000.0)
    failure = Exhausted(shortage, LimitAction.SUSPEND)
    assert failure.code is ErrorCode.TOKEN_BUDGET_EXCEEDED
    assert failure.message == (
        "the call needs up to 900 tokens, and the agent's own tokens_per_hour of 1,000 tokens has 200 tokens left "
        "until 2027-01-15 08:00:00 UTC; `l02 set-quota ID` raises it"
    )


def test_it_says_that_a_call_can_never_fit_and_at_which_level() -> None:
    shortage = Shortage(LimitName.COST_PER_DAY, 2_500_000, 3_000_000, 0, 2_500_000, None)
    failure = Exhausted(shortage, LimitAction.ASK, "team-a")
    assert failure.message == (
        "the call needs up to 3 USD, and budget 'team-a', its cost_per_day of 2.5 USD can never hold that; ask for "
        "less (`max_tokens`), or `l02 budget raise team-a` raises it"
    )


@given(st.floats(0, 200_000_000_000))
def test_times_are_those_of_the_calendar(moment: float) -> None:
    assert utc_text(moment) == f"{datetime.fromtimestamp(int(moment), UTC):%Y-%m-%d %H:%M:%S} UTC"
