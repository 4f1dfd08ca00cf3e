"""Where an agent is in its life, as all ask it who act on that: exactly one of new, at work, suspended and ended."""

import pytest

from l02.domain.agent.state import Status
from l02.domain.kernel.message import Event
from tests.domain.agent.story import RUNNING, SUSPENDED, TERMINATED, given, restarted, resumed, spawn_requested


@pytest.mark.parametrize(
    ("past", "status", "asked"),
    [
        ((), Status.NEW, (False, False, False, False)),
        ((spawn_requested(),), Status.PENDING, (True, False, False, True)),
        (RUNNING, Status.RUNNING, (True, False, False, True)),
        ((*RUNNING, restarted()), Status.PENDING, (True, False, False, False)),
        (SUSPENDED, Status.SUSPENDED, (False, True, False, False)),
        ((*SUSPENDED, resumed()), Status.PENDING, (True, False, False, True)),
        (TERMINATED, Status.TERMINATED, (False, False, True, False)),
    ],
)
def test_each_stage(past: tuple[Event, ...], status: Status, asked: tuple[bool, ...]) -> None:
    agent = given(*past).state
    assert agent.status is status
    assert (agent.is_at_work, agent.is_suspended, agent.has_ended, agent.wants_process) == asked


def test_it_works_on_the_node_that_it_was_given_to_and_on_no_other() -> None:
    assert given(*RUNNING).state.is_at_work_on("n1")
    assert not given(*RUNNING).state.is_at_work_on("n2")
    assert not given(*SUSPENDED).state.is_at_work_on("n1")
