from l02.domain.errors import ErrorCode
from tests.domain.agent.story import (
    CHECKPOINTED,
    EXECUTING,
    RUNNING,
    checkpoint_failed,
    checkpoint_requested,
    checkpoint_told,
    given,
)

FAIL = checkpoint_failed(checkpoint_type="auto")
FAILED = checkpoint_failed()


def test_happened() -> None:
    after = given(*RUNNING, checkpoint_requested("k1")).when(FAIL).then(FAILED)
    assert after.state.pending_checkpoints == {}
    assert after.state.checkpoints == {}


def test_it_completes_the_command() -> None:
    given(*RUNNING, checkpoint_requested("k1", awaited_by="c9")).when(FAIL).then(checkpoint_failed(completes=("c9",)))


def test_the_execution_that_asked_has_its_answer() -> None:
    given(*EXECUTING, checkpoint_requested("k1", call=2)).when(FAIL).then(
        FAILED, checkpoint_told({"code": "E2031", "message": "too large"}, 2)
    )


def test_ignored_when_already_recorded() -> None:
    given(*RUNNING, checkpoint_requested("k1"), FAILED).when(FAIL).ignored()
    given(*CHECKPOINTED).when(FAIL).ignored()


def test_refused_when_there_is_no_such_agent() -> None:
    given().when(FAIL).fails(ErrorCode.AGGREGATE_NOT_FOUND)
