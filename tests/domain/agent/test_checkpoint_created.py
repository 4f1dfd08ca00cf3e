from l02.domain.agent.saved.checkpoints import MAX_CHECKPOINTS
from l02.domain.agent.state import KeptCheckpoint, StateChange
from l02.domain.errors import ErrorCode
from tests.domain.agent.story import (
    CHECKPOINTED,
    EXECUTING,
    RUNNING,
    checkpoint_created,
    checkpoint_expired,
    checkpoint_requested,
    checkpoint_told,
    completed,
    given,
    stored,
)


def test_happened() -> None:
    asked = checkpoint_requested("k1", label="good", awaited_by="c9")
    created = checkpoint_created("k1", label="good", completes=("c9",))
    after = given(*RUNNING, asked).when(checkpoint_created(checkpoint_type="auto")).then(created)
    assert after.state.pending_checkpoints == {}
    assert after.state.newest_checkpoint == KeptCheckpoint(
        checkpoint_id="k1",
        checkpoint_type="manual",
        label="good",
        storage_location="postgres:a1/k1",
        sha256="9f86d081",
        version=4,
        revision=0,
        created_at=1000.0,
    )


def test_it_holds_what_it_was_when_it_was_taken() -> None:
    after = (
        given(*CHECKPOINTED, checkpoint_requested("k2"))
        .when(checkpoint_created("k2", 1))
        .then(checkpoint_created("k2", 1))
    )
    assert after.state.unchanged_since is None


def test_the_execution_that_asked_has_its_answer() -> None:
    given(*EXECUTING, checkpoint_requested("k1", call=2)).when(checkpoint_created()).then(
        checkpoint_created(), checkpoint_told({"checkpoint_id": "k1"}, 2)
    )


def test_what_an_execution_had_changed_is_no_revision_of_the_agent() -> None:
    asked = checkpoint_requested("k1", call=2, state=StateChange(set={"half": 1}))
    given(*EXECUTING, asked).when(checkpoint_created("k1", 1)).then(
        checkpoint_created("k1", -1), checkpoint_told({"checkpoint_id": "k1"}, 2)
    )


def test_an_execution_that_has_ended_meanwhile_needs_none() -> None:
    given(*EXECUTING, checkpoint_requested("k1", call=2), completed()).when(checkpoint_created()).then(
        checkpoint_created()
    )


def test_the_oldest_makes_room() -> None:
    past = [event for number in range(MAX_CHECKPOINTS) for event in stored(f"old{number}")]
    after = (
        given(*RUNNING, *past, checkpoint_requested("k1"))
        .when(checkpoint_created())
        .then(checkpoint_created(), checkpoint_expired("old0"))
    )
    assert len(after.state.checkpoints) == MAX_CHECKPOINTS


def test_but_sooner_one_that_nobody_asked_for() -> None:
    past = [event for number in range(MAX_CHECKPOINTS - 1) for event in stored(f"old{number}")]
    auto = (checkpoint_requested("auto", "auto"), checkpoint_created("auto", checkpoint_type="auto"))
    given(*RUNNING, *past, *auto, checkpoint_requested("k1")).when(checkpoint_created()).then(
        checkpoint_created(), checkpoint_expired("auto")
    )


def test_ignored_when_already_recorded() -> None:
    given(*CHECKPOINTED).when(checkpoint_created()).ignored()


def test_refused_when_there_is_no_such_agent() -> None:
    given().when(checkpoint_created()).fails(ErrorCode.AGGREGATE_NOT_FOUND)
