import pytest
from msgspec import UNSET, UnsetType

from l02.domain.agent.saved.checkpoints import MAX_PENDING_CHECKPOINTS, CheckpointKept, CheckpointRequested
from l02.domain.agent.state import StateChange
from l02.domain.errors import ErrorCode
from l02.domain.kernel.message import Event
from tests.domain.agent.story import (
    CHECKPOINTED,
    EXECUTING,
    MOVED_ON,
    RUNNING,
    TERMINATED,
    TERMINATING,
    checkpoint_created,
    checkpoint_requested,
    checkpoint_told,
    given,
    stored,
)

AUTO = CheckpointRequested(checkpoint_id="k2", checkpoint_type="auto", node_id="n1")
CHANGE = StateChange(set={"half": 1})


def by_the_agent(state: StateChange | UnsetType = UNSET, label: str | None = None) -> CheckpointRequested:
    return CheckpointRequested(
        checkpoint_id="k2",
        checkpoint_type="manual",
        node_id="n1",
        label=label,
        execution_id="x1",
        call=1,
        state=state,
    )


def test_happened() -> None:
    given(*MOVED_ON).when(AUTO).then(checkpoint_requested("k2", "auto"))


def test_happened_for_an_execution() -> None:
    after = given(*EXECUTING).when(by_the_agent(CHANGE)).then(checkpoint_requested("k2", call=1, state=CHANGE))
    assert after.state.pending_checkpoints["k2"].state == CHANGE
    after.when(by_the_agent(CHANGE)).ignored()


def test_an_execution_that_has_changed_nothing_is_told_of_the_newest() -> None:
    past = (*EXECUTING, *stored("k1", 1))
    told = checkpoint_told({"checkpoint_id": "k1"}, label="good")
    after = given(*past).when(by_the_agent(label="good")).then(CheckpointKept(checkpoint_id="k1", label="good"), told)
    assert after.state.unchanged_since, "that one was taken is no change"
    after.when(by_the_agent(label="good")).ignored()


def test_an_execution_is_told_when_there_is_no_room() -> None:
    waiting = [checkpoint_requested(f"w{number}") for number in range(MAX_PENDING_CHECKPOINTS)]
    told = checkpoint_told({"code": "E2030", "message": "20 checkpoints of the agent wait to be stored"})
    given(*EXECUTING, *waiting).when(by_the_agent()).then(told)


@pytest.mark.parametrize(
    "past",
    [RUNNING, CHECKPOINTED, (*MOVED_ON, checkpoint_requested("k3")), TERMINATING, TERMINATED],
    ids=["never worked", "unchanged", "being taken", "terminating", "terminated"],
)
def test_ignored_when_there_is_nothing_to_keep(past: tuple[Event, ...]) -> None:
    given(*past).when(AUTO).ignored()


def test_refused_when_the_execution_is_not_under_way() -> None:
    given(*RUNNING).when(by_the_agent()).fails(ErrorCode.INVALID_STATE, "x1 is not under way")


def test_what_the_execution_had_changed_is_no_revision_of_the_agent() -> None:
    asked = checkpoint_requested("k2", call=1, state=CHANGE)
    created = checkpoint_created("k2", -1)
    assert given(*EXECUTING, asked, created).state.unchanged_since is None
