import pytest
from msgspec.structs import replace

from l02.domain.agent.life.restarts import RestartDue
from l02.domain.kernel.message import Event
from tests.domain.agent.story import (
    EXECUTING,
    FAILED,
    RESTARTING,
    RUNNING,
    SUSPENDED,
    TERMINATED,
    completed,
    given,
    restarted,
    resumed,
    spawn_requested,
    spawned,
)
from tests.domain.agent.story import TERMINATING as TERMINATING_WHILE_RUNNING

RESTART = RestartDue(attempt=1)
AGAIN = spawn_requested(2, requested_by="restart policy", node_id="n1")
TERMINATING = (*RESTARTING, *TERMINATING_WHILE_RUNNING[-1:])


def test_happened() -> None:
    after = given(*RESTARTING).when(RESTART, node_id="n2").then(AGAIN)
    assert not after.state.restart_pending
    assert after.state.restart_attempt == 1
    assert after.state.node_id == "n1", "where its files are, whichever node decides"


def test_it_stays_in_its_fleet() -> None:
    past = (replace(spawn_requested(), fleet_id="archive"), spawned(), restarted())
    given(*past).when(RESTART, node_id="n2").then(replace(AGAIN, fleet_id="archive"))


def test_ignored_when_it_comes_twice() -> None:
    given(*RESTARTING, AGAIN).when(RESTART, node_id="n2").ignored()


def test_ignored_when_it_is_of_an_earlier_attempt() -> None:
    given(*RESTARTING, AGAIN, restarted(2, 2.0)).when(RESTART, node_id="n2").ignored()


def test_due_even_if_work_was_completed_meanwhile() -> None:
    given(*EXECUTING, restarted(), completed()).when(RESTART, node_id="n2").then(AGAIN)


@pytest.mark.parametrize(
    "past",
    [RUNNING, SUSPENDED, (*SUSPENDED, resumed()), TERMINATING, TERMINATED, FAILED],
    ids=["running", "suspended", "resumed", "terminating", "terminated", "failed"],
)
def test_ignored_when_it_comes_late(past: tuple[Event, ...]) -> None:
    given(*past).when(RESTART, node_id="n2").ignored()


def test_suspended_while_restarting() -> None:
    given(*RESTARTING, SUSPENDED[-1]).when(RESTART, node_id="n2").ignored()
    given(*RESTARTING, SUSPENDED[-1], resumed()).when(RESTART, node_id="n2").ignored()
