import pytest

from l02.domain.agent.saved.checkpoints import MAX_PENDING_CHECKPOINTS, Checkpoint, CheckpointKept
from l02.domain.errors import ErrorCode
from l02.domain.kernel.message import Event
from tests.domain.agent.story import (
    CHECKPOINTED,
    FAILED,
    MOVED_ON,
    PENDING,
    RUNNING,
    SUSPENDED,
    TERMINATED,
    TERMINATING,
    checkpoint_requested,
    given,
    stored,
)

CHECKPOINT = Checkpoint()
LABELLED = Checkpoint(label="good")


@pytest.mark.parametrize("past", [PENDING, RUNNING, SUSPENDED, MOVED_ON], ids=["pending", "running", "suspended", "on"])
def test_happened(past: tuple[Event, ...]) -> None:
    after = given(*past).when(CHECKPOINT).then(checkpoint_requested("c1", awaited_by="c1"))
    assert list(after.state.pending_checkpoints) == ["c1"]


def test_nobody_waits_for_what_was_only_to_be_accepted() -> None:
    command = Checkpoint(label="good", wait="accepted")
    given(*RUNNING).when(command).then(checkpoint_requested("c1", label="good"))


def test_ignored_but_for_the_answer_when_nothing_has_changed() -> None:
    given(*CHECKPOINTED).when(CHECKPOINT).then(CheckpointKept(checkpoint_id="k1"))


def test_one_without_a_name_takes_that_which_is_given_now() -> None:
    after = given(*CHECKPOINTED).when(LABELLED).then(CheckpointKept(checkpoint_id="k1", label="good"))
    assert after.state.checkpoints["k1"].label == "good"


def test_a_name_is_not_taken_away() -> None:
    past = (*RUNNING, *stored("k1", label="good"))
    kept = CheckpointKept(checkpoint_id="k1", label="good")
    given(*past).when(CHECKPOINT).then(kept)
    given(*past).when(LABELLED).then(kept)
    better = Checkpoint(label="better")
    given(*past).when(better).then(checkpoint_requested("c1", label="better", awaited_by="c1"))


@pytest.mark.parametrize("past", [TERMINATING, TERMINATED, FAILED], ids=["terminating", "terminated", "failed"])
def test_refused_by_one_that_ends(past: tuple[Event, ...]) -> None:
    given(*past).when(CHECKPOINT).fails(ErrorCode.INVALID_STATE, "can be forked")


def test_refused_when_too_many_wait() -> None:
    waiting = [checkpoint_requested(f"k{number}") for number in range(MAX_PENDING_CHECKPOINTS)]
    given(*RUNNING, *waiting).when(CHECKPOINT).fails(ErrorCode.INVALID_STATE, "wait to be stored")
