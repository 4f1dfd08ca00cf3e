import pytest
from msgspec.structs import replace

from l02.domain.agent.life.termination import Terminate, TerminationRequested
from l02.domain.errors import ErrorCode
from l02.domain.kernel.message import Event
from tests.domain.agent.story import FAILED, PENDING, RESTARTING, RUNNING, SUSPENDED, TERMINATED, TERMINATING, given

TERMINATE = Terminate(reason="drain")


@pytest.mark.parametrize(
    "past", [PENDING, RUNNING, RESTARTING, SUSPENDED], ids=["pending", "running", "restarting", "suspended"]
)
def test_happened(past: tuple[Event, ...]) -> None:
    after = (
        given(*past)
        .when(TERMINATE, command_id="c9")
        .then(TerminationRequested(reason="drain", requested_by="alice", awaited_by="c9"))
    )
    assert after.state.terminating == "drain"


def test_the_outcome_may_be_wanted_at_once() -> None:
    given(*RUNNING).when(replace(TERMINATE, wait="accepted"), command_id="c9").then(
        TerminationRequested(reason="drain", requested_by="alice")
    )


@pytest.mark.parametrize("past", [TERMINATING, TERMINATED], ids=["terminating", "terminated"])
def test_ignored_twice(past: tuple[Event, ...]) -> None:
    given(*past).when(TERMINATE, command_id="c9").ignored()


def test_refused_by_one_that_failed() -> None:
    given(*FAILED).when(TERMINATE, command_id="c9").fails(
        ErrorCode.INVALID_STATE, "cannot terminate an agent that is failed"
    )


FORCE = replace(TERMINATE, force=True)


def test_forced_happened() -> None:
    after = (
        given(*RUNNING)
        .when(FORCE, command_id="c9")
        .then(TerminationRequested(reason="drain", requested_by="alice", awaited_by="c9", force=True))
    )
    assert after.state.termination_forced


def test_forced_while_it_ends_both_are_answered() -> None:
    ending = given(*TERMINATING).state
    after = (
        given(*TERMINATING)
        .when(FORCE, command_id="c9")
        .then(TerminationRequested(reason=ending.terminating or "", requested_by="alice", awaited_by="c9", force=True))
    )
    assert after.state.termination_awaited_by == (*ending.termination_awaited_by, "c9")


def test_forced_ignored_when_it_is_gone_or_forced_already() -> None:
    given(*TERMINATED).when(FORCE, command_id="c9").ignored()
    forced = TerminationRequested(reason="drain", requested_by="alice", force=True)
    given(*RUNNING, forced).when(FORCE, command_id="c9").ignored()
