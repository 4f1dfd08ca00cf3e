from l02.domain.budget.lending import BudgetSettled, Recall, Settle
from l02.domain.budget.resetting import BudgetReset
from l02.domain.budget.watching import BudgetExceeded, BudgetWarning
from l02.domain.spending.limits import LimitName
from tests.domain.budget.lent import HOUR, given, left, lent, refused, settled, tokens

ALL_HELD = given(HOUR, lent(400))
REPORT = Settle(slice="s1", used=tokens(100), holds=tokens(300))
PART = settled(100, held=300, closed=False, reserved=300)
LATER = Settle(slice="s1", used=tokens(150), holds=tokens(50))
MORE = settled(50, returned=200, held=50, closed=False, reserved=50)


def test_happened() -> None:
    """A report says all that was spent; what is new of it is on record."""
    budget = ALL_HELD.when(REPORT).then(PART).when(LATER).then(MORE)
    budget = budget.when(Settle(slice="s1", used=tokens(170), closed=True)).then(settled(20, returned=30))
    assert left(budget) == 830


def test_ignored_when_it_is_on_record() -> None:
    ALL_HELD.and_then(PART).when(REPORT).ignored()


def test_ignored_when_it_is_older_than_what_is_on_record() -> None:
    ALL_HELD.and_then(PART, MORE).when(REPORT).ignored()


def test_ignored_of_a_slice_that_is_closed_or_was_never_lent() -> None:
    more = Settle(slice="s1", used=tokens(900), closed=True)
    ALL_HELD.and_then(PART, MORE, settled(20, returned=30)).when(more).ignored()
    given(HOUR).when(more).ignored()


def test_more_than_was_lent_is_spent_all_the_same() -> None:
    budget = given(HOUR, lent(100)).when(Settle(slice="s1", used=tokens(700), closed=True)).then(settled(700))
    assert left(budget) == 300


def test_a_slice_held_over_the_end_of_a_window_is_charged_to_that_in_which_it_is_reported() -> None:
    reset = BudgetReset(limits=(LimitName.TOKENS_PER_HOUR,), used={LimitName.TOKENS_PER_HOUR: 300}, at=4600.0)
    budget = given(HOUR, lent(400), settled(300, held=100, closed=False, reserved=100))
    assert refused(budget, 901, time=4600.0).shortage.is_passing  # what is held stays reserved, also in the new window
    budget = budget.when(Settle(slice="s1", used=tokens(360), holds=tokens(40)), time=4600.5).then(
        reset, settled(60, held=40, closed=False, reserved=40, at=4600.0)
    )
    assert budget.state.windows[LimitName.TOKENS_PER_HOUR].reset_at == 8200.0
    assert left(budget) == 900


def test_warned_and_exceeded_once_in_a_window() -> None:
    def warning(threshold: float, used: int) -> BudgetWarning:
        return BudgetWarning(
            limit=LimitName.TOKENS_PER_HOUR,
            threshold=threshold,
            percent=used / 10,
            amount=1000,
            used=used,
            reset_at=4600.0,
        )

    def report(used: int) -> Settle:
        return Settle(slice="s1", used=tokens(used), holds=tokens(1000 - used))

    def told(used: int, before: int) -> BudgetSettled:
        return settled(used - before, held=1000 - used, closed=False, reserved=1000 - used)

    budget = given(HOUR, lent(1000))
    budget = budget.when(report(799)).then(told(799, 0))
    budget = budget.when(report(800)).then(told(800, 799), warning(0.8, 800))
    budget = budget.when(report(850)).then(told(850, 800))
    budget = budget.when(report(950)).then(told(950, 850), warning(0.9, 950))
    events = budget.when(report(1000)).decided()
    assert [event.type for event in events] == ["budget.settled", "budget.exceeded"]
    budget = budget.and_then(*events)
    assert isinstance(events[1], BudgetExceeded)
    assert (events[1].used, events[1].percent, events[1].action) == (1000, 100.0, "suspend")
    budget.when(Recall(holder="n1", needed=tokens(1))).ignored()
