import pytest
from msgspec.structs import replace

from l02.domain.agent.resources import ResourceWarned, threshold_reached
from tests.domain.agent.story import (
    EXECUTING,
    RUNNING,
    SUSPENDED,
    completed,
    given,
    restarted,
    spawn_requested,
    spawned,
)

FULL = ResourceWarned(resource_type="memory", current_usage=81, limit=100, threshold_percent=80, incarnation=1)
LATE = ResourceWarned(
    resource_type="execution_seconds", current_usage=48.1, limit=60, threshold_percent=80, execution_id="x1"
)


def test_happened() -> None:
    given(*RUNNING).when(FULL).then(FULL)


def test_ignored_of_a_process_that_is_gone() -> None:
    given(*RUNNING).when(replace(FULL, incarnation=2)).ignored()
    given(*RUNNING, restarted(), spawn_requested(2), spawned(2)).when(FULL).ignored()


def test_ignored_when_it_should_have_no_process() -> None:
    given(*SUSPENDED).when(FULL).ignored()


def test_an_execution_is_warned_of_once_for_each_threshold() -> None:
    warned = given(*EXECUTING).when(LATE).then(LATE)
    warned.when(LATE).ignored()
    later = replace(LATE, threshold_percent=90)
    warned.when(later).then(later).when(LATE).ignored()
    given(*EXECUTING, completed()).when(LATE).ignored()


@pytest.mark.parametrize(
    ("used", "warned", "threshold"),
    [(79.9, 0, None), (80, 0, 80), (89, 80, None), (90, 80, 90), (300, 0, 90), (99, 90, None)],
)
def test_thresholds(used: float, warned: int, threshold: int | None) -> None:
    assert threshold_reached(used, 100, warned) == threshold
