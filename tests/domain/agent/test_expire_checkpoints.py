import pytest

from l02.domain.agent.saved.checkpoints import ExpireCheckpoints
from l02.domain.errors import ErrorCode
from l02.domain.kernel.message import Event
from tests.domain.agent.story import RUNNING, TERMINATING, checkpoint_expired, given, stored, terminated

FOUR = tuple(event for number in range(1, 5) for event in stored(f"k{number}"))


def expire(*checkpoint_ids: str, keep: int = 1) -> ExpireCheckpoints:
    return ExpireCheckpoints(checkpoint_ids=checkpoint_ids, keep=keep)


@pytest.mark.parametrize("past", [(*RUNNING, *FOUR), (*TERMINATING, *FOUR, terminated())], ids=["running", "ended"])
def test_happened(past: tuple[Event, ...]) -> None:
    after = given(*past).when(expire("k1", "k2")).then(checkpoint_expired("k1"), checkpoint_expired("k2"))
    assert list(after.state.checkpoints) == ["k3", "k4"]


def test_the_newest_are_spared() -> None:
    given(*RUNNING, *FOUR).when(expire("k2", "k3", "k4", keep=2)).then(checkpoint_expired("k2"))
    given(*RUNNING, *FOUR).when(expire("k1", keep=9)).ignored()


def test_none_need_be_kept() -> None:
    given(*RUNNING, *FOUR).when(expire("k4", keep=0)).then(checkpoint_expired("k4"))


def test_ignored_when_they_are_gone() -> None:
    given(*RUNNING, *FOUR, checkpoint_expired("k1")).when(expire("k1", "k9")).ignored()


def test_refused_when_there_is_no_such_agent() -> None:
    given().when(expire("k1")).fails(ErrorCode.AGGREGATE_NOT_FOUND)
