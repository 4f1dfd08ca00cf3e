"""What is said of an agent's resources: what is worth an event, once, and of the process that it has."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from l02.domain.agent.resources import (
    ResourceExceeded,
    ResourceUsageSeen,
    ResourceWarned,
    has_moved,
    threshold_reached,
)
from l02.domain.agent.work.executions import ExecutionFailed
from l02.domain.specification import ResourceLimits
from tests.domain.agent.story import EXECUTING, RUNNING, SUSPENDED, completed, given, report_exit, restarted, started
from tests.domain.agent.test_recover_process import AGAIN, RECOVER, recovered

SEEN = ResourceUsageSeen(
    incarnation=1,
    cpu_seconds=2.5,
    cpu_cores=0.5,
    memory_bytes=100 << 20,
    memory_peak_bytes=120 << 20,
    tokens_consumed=0,
)
LATE = ResourceWarned(
    resource_type="execution_seconds", current_usage=48.1, limit=60, threshold_percent=80, execution_id="x1"
)
FULL = ResourceWarned(resource_type="memory", current_usage=81, limit=100, threshold_percent=80, incarnation=1)
EXCEEDED = ResourceExceeded(resource_type="memory", limit=100, actual=101, action_taken="terminate", code="E2071")


@pytest.mark.parametrize("report", [SEEN, FULL], ids=lambda report: report.type)
def test_happened(report: ResourceUsageSeen | ResourceWarned) -> None:
    given(*RUNNING).when(report).then(report)


@pytest.mark.parametrize("report", [SEEN, FULL], ids=lambda report: report.type)
def test_ignored_of_a_process_that_is_gone(report: ResourceUsageSeen | ResourceWarned) -> None:
    given(*RUNNING).when(replace(report, incarnation=2)).ignored()
    given(*SUSPENDED).when(report).ignored()


def test_a_limit_that_was_passed_is_on_record_with_the_end_of_its_process() -> None:
    ended = replace(report_exit(), exceeded=EXCEEDED)
    given(*RUNNING).when(ended).then(EXCEEDED, restarted())
    given(*RUNNING).when(replace(ended, incarnation=2)).ignored()


def test_work_that_has_filled_its_disk_fails_and_the_process_is_replaced_at_once() -> None:
    full = replace(EXCEEDED, resource_type="disk", code="E2074")
    ended = replace(report_exit(), exceeded=full, cause="E2074: full")
    events = given(*EXECUTING, started("x2")).when(ended).decided()
    assert [event.type for event in events] == [
        "agent.resource.exceeded",
        "agent.execution.failed",
        "agent.restarted",
        "agent.spawn.requested",
    ]
    [failed] = [event for event in events if isinstance(event, ExecutionFailed)]
    assert (failed.execution_id, failed.code, failed.message) == ("x1", "E2074", "E2074: full")
    given(*RUNNING).when(ended).then(full, replace(restarted(), cause="E2074: full"))


def test_what_was_seen_of_a_process_is_known_when_its_node_is_lost() -> None:
    after = given(*RUNNING, SEEN)
    used = replace(after.state.usage, cpu_seconds=2.5, memory_peak_bytes=120 << 20)
    after.when(RECOVER, node_id="n2").then(recovered(usage=used), AGAIN)


def test_an_execution_is_warned_of_once_for_each_threshold() -> None:
    warned = given(*EXECUTING).when(LATE).then(LATE)
    warned.when(LATE).ignored()
    later = replace(LATE, threshold_percent=90)
    warned.when(later).then(later).when(LATE).ignored()
    given(*EXECUTING, completed()).when(LATE).ignored()


LIMITS = ResourceLimits(cpu="1", memory="1000Mi")


@pytest.mark.parametrize(
    ("changes", "moved"),
    [
        ({}, False),
        ({"cpu_seconds": 9.0, "memory_peak_bytes": 1 << 40}, False),
        ({"cpu_cores": 0.54}, False),
        ({"cpu_cores": 0.56}, True),
        ({"cpu_cores": 0.44}, True),
        ({"memory_bytes": 109 << 20}, False),
        ({"memory_bytes": 110 << 20}, True),
        ({"memory_bytes": 90 << 20}, True),
    ],
)
def test_a_tenth_is_worth_an_event(changes: dict[str, float], moved: bool) -> None:
    assert has_moved(LIMITS, SEEN, replace(SEEN, **changes)) is moved


def test_little_of_the_limit_is_not_worth_an_event_however_large_a_part_it_is() -> None:
    idle = replace(SEEN, cpu_cores=0.0, memory_bytes=9 << 20)
    assert not has_moved(LIMITS, None, idle)
    assert not has_moved(LIMITS, idle, replace(idle, cpu_cores=0.009, memory_bytes=18 << 20))
    assert has_moved(LIMITS, None, SEEN)


@pytest.mark.parametrize(
    ("used", "warned", "threshold"),
    [(79.9, 0, None), (80, 0, 80), (89, 80, None), (90, 80, 90), (300, 0, 90), (99, 90, None)],
)
def test_thresholds(used: float, warned: int, threshold: int | None) -> None:
    assert threshold_reached(used, 100, warned) == threshold
