from l02.domain.agent.saved.checkpoints import CheckpointFailed
from l02.domain.agent.saved.restoring import RestoreFailed
from l02.domain.errors import ErrorCode
from tests.domain.agent.story import (
    MOVED_ON,
    RUNNING,
    TERMINATING,
    USAGE,
    checkpoint_requested,
    given,
    restore_requested,
    terminated,
)

FAIL = RestoreFailed(checkpoint_id="k1", code="E2033", message="it has changed")


def failed(code: str, message: str, *completes: str) -> RestoreFailed:
    return RestoreFailed(checkpoint_id="k1", code=code, message=message, completes=completes)


def test_happened() -> None:
    past = (*MOVED_ON, restore_requested(awaited_by="c9"))
    after = given(*past).when(FAIL).then(failed("E2033", "it has changed", "c9"))
    assert after.state.restoring is None
    assert after.state.data == {"seen": 5}


def test_ignored_when_nobody_asked_for_it() -> None:
    given(*MOVED_ON).when(FAIL).ignored()
    given(*MOVED_ON, restore_requested("k0")).when(FAIL).ignored()


def test_an_agent_that_ends_leaves_nobody_waiting() -> None:
    message = "the agent ended before it was done"
    asked = (checkpoint_requested("k5", awaited_by="c5"), restore_requested(awaited_by="c6"))
    no_checkpoint = CheckpointFailed(
        checkpoint_id="k5", checkpoint_type="manual", code="E2030", message=message, completes=("c5",)
    )
    after = (
        given(*RUNNING, *asked, TERMINATING[-1])
        .when(terminated())
        .then(no_checkpoint, failed("E2032", message, "c6"), terminated())
    )
    assert after.state.usage == USAGE
    assert after.state.pending_checkpoints == {}


def test_refused_when_there_is_no_such_agent() -> None:
    given().when(FAIL).fails(ErrorCode.AGGREGATE_NOT_FOUND)
