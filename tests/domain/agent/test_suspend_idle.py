import pytest

from l02.domain.agent.life.suspension import AgentResumed, AgentSuspended, SuspendIdle
from l02.domain.agent.work.executions import Execute
from l02.domain.agent.work.signals import Signal
from l02.domain.errors import ErrorCode
from l02.domain.kernel.message import Event
from tests.domain.agent.story import (
    CHECKPOINTED,
    EXECUTING,
    IDLE,
    MOVED_ON,
    PENDING,
    RUNNING,
    SUSPENDED,
    TERMINATING,
    checkpoint_requested,
    given,
    restore_requested,
    signalled,
    started,
)

RESUMED = AgentResumed(session_id="s1", node_id="n2", incarnation=2, checkpoint_id="k1")


def suspend(revision: int) -> SuspendIdle:
    return SuspendIdle(revision=revision, checkpoint_id="k9")


def test_happened() -> None:
    after = (
        given(*MOVED_ON)
        .when(suspend(3))
        .then(
            checkpoint_requested("k9", "pre_suspend"),
            AgentSuspended(session_id="s1", reason="idle", checkpoint_id="k9"),
        )
    )
    assert after.state.sleeps


def test_nothing_is_stored_twice() -> None:
    given(*CHECKPOINTED).when(suspend(2)).then(AgentSuspended(session_id="s1", reason="idle", checkpoint_id="k1"))


def test_work_wakes_it() -> None:
    execute = Execute(input="how many commits?")
    after = given(*IDLE).when(execute, command_id="x1", node_id="n2").then(RESUMED, started(awaited_by="x1"))
    assert not after.state.sleeps


def test_a_signal_wakes_it() -> None:
    signal = Signal(name="approve", payload=True)
    given(*IDLE).when(signal, node_id="n2").then(RESUMED, signalled())


@pytest.mark.parametrize(
    ("past", "revision"),
    [
        (MOVED_ON, 2),
        (PENDING, 0),
        (EXECUTING, 1),
        (SUSPENDED, 0),
        (IDLE, 2),
        (TERMINATING, 0),
        ((*MOVED_ON, restore_requested()), 3),
    ],
    ids=["something happened", "pending", "executing", "suspended", "idle", "terminating", "being restored"],
)
def test_ignored_when_it_is_not_idle(past: tuple[Event, ...], revision: int) -> None:
    given(*past).when(suspend(revision)).ignored()


def test_refused_when_there_is_no_such_agent() -> None:
    given().when(suspend(0)).fails(ErrorCode.AGGREGATE_NOT_FOUND)
    given(*RUNNING).when(suspend(1)).ignored()
