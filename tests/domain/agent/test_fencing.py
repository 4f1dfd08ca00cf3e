"""Whose word is taken: the node's that has the agent, and the process' that the agent has now."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from l02.domain.agent.life.suspension import AgentResumed, AgentSuspended
from l02.domain.agent.work.effects import EffectRecorded, RecordedStep
from l02.domain.errors import ErrorCode
from l02.domain.kernel.message import Event, Report
from tests.domain.agent.story import (
    EXECUTING,
    TERMINATING,
    checkpoint_requested,
    completed,
    execution_failed,
    given,
    restarted,
    spawn_requested,
    spawned,
    steps_recorded,
    tool_called,
    tool_requested,
)

NOW = EffectRecorded(execution_id="x1", call=1, kind="now", request={}, result=1.5)
STEPS = steps_recorded(RecordedStep(call=1, kind="now", after=0, result=1.5))
OF_THE_NODE = [tool_called(), NOW, tool_requested(), checkpoint_requested("k1", call=1)]
OF_THE_PROCESS = [STEPS, completed(), execution_failed("E2005", "no")]
REPLACED = (*EXECUTING, restarted(), spawn_requested(2), spawned(2))
AWAY_AND_BACK = (
    *EXECUTING,
    spawn_requested(2, node_id="n2"),
    spawn_requested(3, node_id="n1"),
    spawned(3),
    spawn_requested(4, node_id="n1"),
)
SUSPENDED = (*EXECUTING, AgentSuspended(session_id="s1", reason="user_request"))
ENDING = (*EXECUTING, TERMINATING[-1])


def accepted(past: tuple[Event, ...], report: Report, incarnation: int | None) -> None:
    given(*past).when(report, incarnation=incarnation).then(report)


def refused(past: tuple[Event, ...], report: Report, incarnation: int, saying: str) -> None:
    given(*past).when(report, incarnation=incarnation).fails(ErrorCode.INVALID_STATE, saying)


def test_since_when_the_agent_is_on_its_node() -> None:
    assert [given(*AWAY_AND_BACK[:count]).state.node_since for count in range(1, len(AWAY_AND_BACK) + 1)] == [
        *[1] * len(EXECUTING),
        2,
        3,
        3,
        3,
    ]
    resumed = [AgentResumed(session_id="s1", node_id=node_id, incarnation=2) for node_id in ("n1", "n2")]
    assert [given(*SUSPENDED, item).state.node_since for item in resumed] == [1, 2]


@pytest.mark.parametrize("report", OF_THE_NODE)
def test_what_a_node_does_outlives_the_process_it_does_it_for(report: Report) -> None:
    for incarnation in (None, 1, 2):
        accepted(REPLACED, report, incarnation)


@pytest.mark.parametrize("report", OF_THE_NODE)
def test_what_it_did_before_the_agent_was_elsewhere_is_refused(report: Report) -> None:
    for incarnation in (None, 3, 4):
        accepted(AWAY_AND_BACK, report, incarnation)
    for incarnation in (1, 2):
        refused(AWAY_AND_BACK, report, incarnation, f"process {incarnation} of the agent is gone; it has process 4 now")


@pytest.mark.parametrize("report", OF_THE_PROCESS)
def test_only_the_process_that_the_agent_has_says_what_it_did(report: Report) -> None:
    for incarnation in (None, 2):
        accepted(REPLACED, report, incarnation)
    for incarnation in (1, 3):
        refused(REPLACED, report, incarnation, f"process {incarnation} of the agent is gone")
    for incarnation in (1, 2, 3):
        refused(AWAY_AND_BACK, report, incarnation, f"process {incarnation} of the agent is gone")


@pytest.mark.parametrize("report", [tool_requested(), checkpoint_requested("k1", call=1)])
def test_nothing_begins_that_would_leave_an_agent_that_is_to_rest_or_to_end(report: Report) -> None:
    refused(SUSPENDED, report, 1, "an agent that is suspended; its work goes on when it is resumed")
    refused(ENDING, report, 1, "an agent that is terminating; its work ends with it")
    accepted((*SUSPENDED, AgentResumed(session_id="s1", node_id="n1", incarnation=2)), report, 2)


@pytest.mark.parametrize("report", [tool_called(), NOW, STEPS, completed(), execution_failed("E2005", "no")])
def test_what_is_done_is_recorded_also_then(report: Report) -> None:
    accepted(SUSPENDED, report, 1)
    accepted(ENDING, report, 1)


OTHERWISE: list[tuple[Report, Report]] = [
    (tool_called(), replace(tool_called(), tool="count_words")),
    (tool_called(), replace(tool_called(), arguments={"to": "eve"})),
    (tool_called(), replace(tool_called(), ok=False)),
    (tool_called(), replace(tool_called(), result="lost")),
    (tool_called(), NOW),
    (NOW, tool_called()),
    (NOW, replace(NOW, result=1.25)),
    (NOW, replace(NOW, kind="random")),
    (NOW, replace(NOW, kind="sleep", done=False, deadline=9.0)),
    (NOW, steps_recorded(RecordedStep(call=1, kind="now", after=0, result=1.25))),
    (STEPS, replace(NOW, result=None)),
    (replace(NOW, result=1), replace(NOW, result=True)),
]


@pytest.mark.parametrize(("first", "second"), OTHERWISE)
def test_a_call_is_on_record_as_one_thing(first: Report, second: Report) -> None:
    given(*EXECUTING, first).when(second).fails(ErrorCode.NONDETERMINISTIC_AGENT, "call 1 (")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (tool_called(), replace(tool_called(), attempts=3, duration_seconds=9.0)),
        (NOW, NOW),
        (NOW, STEPS),
        (STEPS, NOW),
        (NOW, replace(NOW, done=False, result=None)),
        (
            replace(NOW, request={"a": 1, "b": 2}, result={"c": [1.5], "d": None}),
            replace(NOW, request={"b": 2, "a": 1}, result={"d": None, "c": [1.5]}),
        ),
    ],
)
def test_the_same_again_is_ignored(first: Any, second: Any) -> None:
    given(*EXECUTING, first).when(second).ignored()
