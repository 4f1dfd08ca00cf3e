import pytest
from msgspec.structs import replace

from domain.agent.state import Status
from domain.message import Event
from tests.domain.agent.story import (
    EXECUTING,
    FAILED,
    PENDING,
    RESTARTING,
    RUNNING,
    SUSPENDED,
    TERMINATED,
    TERMINATING,
    USAGE,
    completed,
    given,
    report_exit,
    restarted,
    spawn_requested,
)


@pytest.mark.parametrize("past", [PENDING, RUNNING], ids=["before it was ready", "while it ran"])
def test_happened(past: tuple[Event, ...]) -> None:
    after = given(*past).when(report_exit()).then(restarted())
    assert after.state.status is Status.PENDING
    assert not after.state.process_ready
    assert after.state.usage == USAGE


def test_its_work_is_kept() -> None:
    assert list(given(*EXECUTING).when(report_exit()).then(restarted()).state.executions) == ["x1"]


def test_tokens_are_counted_by_executions() -> None:
    used = replace(USAGE, tokens_consumed=7)
    given(*EXECUTING, completed()).when(report_exit()).then(replace(restarted(), usage=used))


def test_ignored_when_already_recorded() -> None:
    given(*RESTARTING).when(report_exit()).ignored()


def test_ignored_for_a_stale_incarnation() -> None:
    given(*RESTARTING, spawn_requested(2)).when(report_exit(1)).ignored()


@pytest.mark.parametrize(
    "past", [SUSPENDED, TERMINATING, TERMINATED, FAILED], ids=["suspended", "terminating", "terminated", "failed"]
)
def test_ignored_when_its_end_is_wanted(past: tuple[Event, ...]) -> None:
    given(*past).when(report_exit()).ignored()
