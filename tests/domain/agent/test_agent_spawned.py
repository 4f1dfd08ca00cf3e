import pytest

from l02.domain.agent.state import Status
from l02.domain.kernel.message import Event
from tests.domain.agent.story import (
    FAILED,
    PENDING,
    RESTARTING,
    RUNNING,
    SUSPENDED,
    TERMINATED,
    TERMINATING,
    given,
    restarted,
    resumed,
    spawn_requested,
    spawned,
)


def test_happened() -> None:
    after = given(*PENDING).when(spawned()).then(spawned())
    assert after.state.status is Status.RUNNING
    assert after.state.process_ready


def test_it_completes_the_spawn() -> None:
    after = given(spawn_requested(awaited_by="c1")).when(spawned()).then(spawned(completes=("c1",)))
    assert after.state.spawn_awaited_by is None


def test_it_completes_the_spawn_also_after_a_restart() -> None:
    past = (spawn_requested(awaited_by="c1"), restarted(), spawn_requested(2))
    given(*past).when(spawned(2)).then(spawned(2, completes=("c1",)))


def test_a_session_outlives_its_process() -> None:
    given(*SUSPENDED, resumed()).when(spawned(2, session_id="s2")).then(spawned(2))


def test_also_when_the_agent_is_to_end_meanwhile() -> None:
    given(*PENDING, TERMINATING[-1]).when(spawned()).then(spawned())


def test_ignored_when_already_recorded() -> None:
    given(*RUNNING).when(spawned()).ignored()


def test_ignored_for_a_stale_incarnation() -> None:
    given(*RESTARTING, spawn_requested(2)).when(spawned(1)).ignored()


@pytest.mark.parametrize(
    "past",
    [RESTARTING, SUSPENDED, TERMINATED, FAILED],
    ids=["restarting", "suspended", "terminated", "failed"],
)
def test_ignored_when_no_process_is_wanted(past: tuple[Event, ...]) -> None:
    given(*past).when(spawned()).ignored()
