from l02.domain.agent import commands as c
from l02.domain.agent import events as e
from l02.domain.errors import ErrorCode
from tests.domain.agent.story import (
    CHECKPOINTED,
    EXECUTING,
    RUNNING,
    checkpoint_requested,
    checkpoint_told,
    given,
)

FAIL = c.ReportCheckpointFailed(checkpoint_id="k1", code="E2031", message="too large")
FAILED = e.CheckpointFailed(checkpoint_id="k1", checkpoint_type="manual", code="E2031", message="too large")


def test_happened() -> None:
    after = given(*RUNNING, checkpoint_requested("k1")).when(FAIL).then(FAILED)
    assert after.state.pending_checkpoints == {}
    assert after.state.checkpoints == {}


def test_it_completes_the_command() -> None:
    completing = e.CheckpointFailed(
        checkpoint_id="k1", checkpoint_type="manual", code="E2031", message="too large", completes=("c9",)
    )
    given(*RUNNING, checkpoint_requested("k1", awaited_by="c9")).when(FAIL).then(completing)


def test_the_execution_that_asked_has_its_answer() -> None:
    given(*EXECUTING, checkpoint_requested("k1", call=2)).when(FAIL).then(
        FAILED, checkpoint_told({"code": "E2031", "message": "too large"}, 2)
    )


def test_ignored_when_already_recorded() -> None:
    given(*RUNNING, checkpoint_requested("k1"), FAILED).when(FAIL).ignored()
    given(*CHECKPOINTED).when(FAIL).ignored()


def test_refused_when_there_is_no_such_agent() -> None:
    given().when(FAIL).fails(ErrorCode.AGGREGATE_NOT_FOUND)
