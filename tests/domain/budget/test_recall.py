from l02.domain.budget.lending import BudgetRecalled, Recall
from l02.domain.budget.watching import BudgetExceeded
from l02.domain.spending.limits import LimitName
from tests.domain.budget.lent import HOUR, given, lent, settled, tokens

LENT = given(HOUR, lent(500), lent(400, 900, "s2", "n2"), lent(100, 1000, "s3"))
RECALL = Recall(holder="n2", needed=tokens(200))
RECALLED = BudgetRecalled(slices=("s1", "s3"), limit=LimitName.TOKENS_PER_HOUR, needed=200, holder="n2")


def test_happened() -> None:
    """Others are asked for what they hold."""
    after = LENT.when(RECALL).then(RECALLED).state
    assert [name for name, item in after.slices.items() if item.recalled] == ["s1", "s3"]


def test_ignored_when_they_are_asked() -> None:
    LENT.and_then(RECALLED).when(RECALL).ignored()


def test_ignored_if_there_is_room_by_now() -> None:
    given(HOUR, lent(500)).when(RECALL).ignored()


def test_ignored_if_only_its_own_node_holds_something() -> None:
    given(HOUR, lent(900, name="s2", holder="n2")).when(RECALL).ignored()


def test_ignored_if_it_can_never_fit() -> None:
    LENT.when(Recall(holder="n2", needed=tokens(1001))).ignored()


def test_a_call_that_is_refused_for_what_is_spent_exceeds_it() -> None:
    budget = given(HOUR, lent(900), settled(900))
    [exceeded] = budget.when(RECALL).decided()
    assert isinstance(exceeded, BudgetExceeded)
    assert (exceeded.used, exceeded.needed, exceeded.percent) == (900, 200, 90.0)
    budget.and_then(exceeded).when(RECALL).ignored()
