from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given as for_all
from msgspec import UNSET
from msgspec.structs import replace

from l02.domain.agent.execution import JournalEntry
from l02.domain.agent.saved.forks import ExecutionInherited
from l02.domain.agent.state import AgentState
from l02.domain.agent.work.effects import RecordedStep, StepsRecorded
from l02.domain.aggregates import AGENT
from l02.domain.errors import ErrorCode, Failure
from l02.domain.kernel.states import encode_state, state_decoder
from tests.domain.agent.story import (
    EXECUTING,
    SEND_MAIL,
    completed,
    given,
    steps_recorded,
    stored,
    tool_called,
    tool_requested,
    words_counted,
)
from tests.domain.given_when_then import context
from tests.runtime.hostile_events import hostile_data

NOW = RecordedStep(call=2, kind="now", after=0, result=1000.5)
THREAD = RecordedStep(call=1, kind="thread", after=4)
FAILED = RecordedStep(
    call=3,
    kind="tool",
    after=1,
    tool="count_words",
    arguments={},
    ok=False,
    result={"code": "E2002", "message": "no answer within 1 s"},
)


def test_happened() -> None:
    steps = steps_recorded(words_counted(1), NOW, FAILED, THREAD)
    execution = given(*EXECUTING).when(steps).then(steps).state.executions["x1"]
    assert execution.journal == (
        JournalEntry(
            call=1,
            kind="tool",
            request={"tool": "count_words", "arguments": {"text": "x"}},
            ok=True,
            result=3,
            after=0,
        ),
        JournalEntry(call=2, kind="now", request={}, ok=True, result=1000.5, after=0),
        JournalEntry(
            call=3,
            kind="tool",
            request={"tool": "count_words", "arguments": {}},
            ok=False,
            result={"code": "E2002", "message": "no answer within 1 s"},
            after=1,
        ),
        JournalEntry(call=1, kind="thread", request={}, ok=True, result=None, after=4),
    )


def test_a_thread_is_no_call() -> None:
    execution = given(*EXECUTING, tool_requested(1), steps_recorded(THREAD)).state.executions["x1"]
    assert not execution.has_recorded(1) and execution.requested_tools == {1: SEND_MAIL}
    given(*EXECUTING, steps_recorded(THREAD)).when(tool_called(1)).then(tool_called(1))
    given(*EXECUTING, tool_called(1)).when(steps_recorded(THREAD)).then(steps_recorded(THREAD))


def test_each_of_them_counts_as_recorded() -> None:
    execution = given(*EXECUTING, steps_recorded(words_counted(7), NOW)).state.executions["x1"]
    assert [call for call in range(9) if execution.has_recorded(call)] == [2, 7] and execution.has_run


def test_what_is_on_record_is_left_out() -> None:
    past = (*EXECUTING, steps_recorded(words_counted(1), THREAD))
    given(*past).when(steps_recorded(words_counted(1), THREAD, NOW)).then(steps_recorded(NOW))
    given(*EXECUTING).when(steps_recorded(NOW, NOW, THREAD)).then(steps_recorded(NOW, THREAD))


def test_ignored_when_all_of_it_is_on_record() -> None:
    steps = steps_recorded(words_counted(1), NOW, THREAD)
    given(*EXECUTING, steps).when(steps).ignored()
    given(*EXECUTING, steps).when(steps_recorded(NOW)).ignored()
    given(*EXECUTING).when(steps_recorded()).ignored()


@pytest.mark.parametrize(
    ("other", "saying"),
    [
        (words_counted(1, True), "call 1 (tool) is on record"),
        (words_counted(1, 3.0), "call 1 (tool) is on record"),
        (words_counted(1, after=1), "call 1 (tool) is on record"),
        (replace(words_counted(1), ok=False), "call 1 (tool) is on record"),
        (replace(words_counted(1), arguments=UNSET), "call 1 (tool) is on record"),
        (replace(NOW, call=1), "call 1 (tool) is on record"),
        (replace(NOW, result=1000.6), "call 2 (now) is on record"),
        (replace(THREAD, after=3), "thread 1 (thread) is on record"),
    ],
)
def test_refused_when_it_is_on_record_otherwise(other: Any, saying: str) -> None:
    past = (*EXECUTING, steps_recorded(words_counted(1), NOW, THREAD))
    given(*past).when(steps_recorded(other)).fails(ErrorCode.NONDETERMINISTIC_AGENT, saying)
    given(*EXECUTING).when(steps_recorded(words_counted(1), NOW, THREAD, other)).fails(
        ErrorCode.NONDETERMINISTIC_AGENT, saying
    )


def test_refused_when_the_execution_is_not_under_way() -> None:
    given(*EXECUTING, completed()).when(steps_recorded(NOW)).fails(ErrorCode.INVALID_STATE, "x1 is not under way")
    given(*EXECUTING).when(steps_recorded(NOW), node_id="n2").fails(ErrorCode.INVALID_STATE, "not on node n2")


@for_all(hostile_data(StepsRecorded, ("x1", "tool", "thread")))
def test_whatever_is_stored_as_steps_can_be_taken_in_and_kept(data: dict[str, Any]) -> None:
    event = msgspec.convert(data | {"execution_id": "x1"}, StepsRecorded)
    after = given(*EXECUTING, event, *stored("k1")).state
    assert state_decoder(AgentState).decode(encode_state(after)) == after
    assert len(after.executions["x1"].journal) == len(event.steps) >= event.calls >= event.tool_calls
    for report in (event, steps_recorded(NOW), tool_called()):
        with suppress(Failure):
            AGENT.decide(after, report, context())
    again = given(*EXECUTING, ExecutionInherited(execution_id="x1", input=1, journal=after.executions["x1"].journal[:]))
    assert again.state.executions["x1"].journal == after.executions["x1"].journal
