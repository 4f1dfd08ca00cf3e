import pytest

from l02.domain.agent.saved.restoring import Restore, RestoreFailed
from l02.domain.errors import ErrorCode
from l02.domain.kernel.message import Event
from tests.domain.agent.story import (
    CHECKPOINTED,
    FAILED,
    IDLE,
    MOVED_ON,
    RUNNING,
    TERMINATED,
    TERMINATING,
    checkpoint_expired,
    given,
    restore_requested,
    signalled,
    stored,
)

RESTORE = Restore(checkpoint_id="k1")


@pytest.mark.parametrize("past", [MOVED_ON, (*IDLE, signalled())], ids=["running", "suspended"])
def test_happened(past: tuple[Event, ...]) -> None:
    after = given(*past).when(RESTORE).then(restore_requested(awaited_by="c1"))
    assert after.state.restoring is not None
    assert not after.state.restoring.resume


def test_another_one_takes_its_place() -> None:
    failed = RestoreFailed(
        checkpoint_id="k1", code="E2032", message="another one was asked for before it was done", completes=("c8",)
    )
    past = (*MOVED_ON, *stored("k2", 3), signalled(), restore_requested("k1", awaited_by="c8"))
    wanted = Restore(checkpoint_id="k2")
    given(*past).when(wanted).then(failed, restore_requested("k2", awaited_by="c1"))


def test_ignored_when_the_agent_is_still_as_it_was() -> None:
    given(*CHECKPOINTED).when(RESTORE).ignored()


def test_refused_without_such_a_checkpoint() -> None:
    for past in (RUNNING, (*MOVED_ON, checkpoint_expired())):
        given(*past).when(RESTORE).fails(ErrorCode.RESTORE_FAILED, "no checkpoint 'k1'", "$.checkpoint_id")


@pytest.mark.parametrize("past", [TERMINATING, TERMINATED, FAILED], ids=["terminating", "terminated", "failed"])
def test_refused_by_one_that_ends(past: tuple[Event, ...]) -> None:
    given(*past).when(RESTORE).fails(ErrorCode.INVALID_STATE, "fork it instead")
