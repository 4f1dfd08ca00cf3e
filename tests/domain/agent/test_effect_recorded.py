from typing import Any

import pytest

from l02.domain.agent.execution import JournalEntry
from l02.domain.agent.state import PendingSignal
from l02.domain.agent.work.effects import EffectRecorded
from l02.domain.errors import ErrorCode
from tests.domain.agent.story import EXECUTING, completed, given, signalled

APPROVE = {"name": "approve", "timeout": 60}


def recorded(kind: str, request: Any = None, *, call: int = 1, result: Any = None, **fields: Any) -> EffectRecorded:
    return EffectRecorded(execution_id="x1", call=call, kind=kind, request=request, result=result, **fields)


def test_happened() -> None:
    after = given(*EXECUTING).when(recorded("random", result=0.5)).then(recorded("random", result=0.5))
    assert after.state.executions["x1"].journal == (
        JournalEntry(call=1, kind="random", request=None, ok=True, result=0.5),
    )


def test_a_wait_begins() -> None:
    begins = recorded("sleep", {"seconds": 9}, done=False, deadline=109.0)
    after = given(*EXECUTING).when(recorded("sleep", {"seconds": 9}, done=False, deadline=109.0)).then(begins)
    execution = after.state.executions["x1"]
    assert execution.waiting[1].deadline == 109.0
    assert execution.journal == ()


def test_a_wait_ends() -> None:
    begun = (*EXECUTING, recorded("sleep", done=False, deadline=109.0))
    after = given(*begun).when(recorded("sleep")).then(recorded("sleep"))
    execution = after.state.executions["x1"]
    assert execution.waiting == {}
    assert [entry.kind for entry in execution.journal] == ["sleep"]


def test_signals_are_taken_in_order_by_name() -> None:
    past = (*EXECUTING, signalled("approve", 1), signalled("reject", 2), signalled("approve", 3))
    taken = {"payload": 1}
    after = given(*past).when(recorded("signal", APPROVE, result=taken)).then(recorded("signal", APPROVE, result=taken))
    assert after.state.signals == (
        PendingSignal(name="reject", payload=2),
        PendingSignal(name="approve", payload=3),
    )


def test_a_wait_that_times_out_takes_no_signal() -> None:
    after = given(*EXECUTING, signalled()).when(recorded("signal", APPROVE)).then(recorded("signal", APPROVE))
    assert len(after.state.signals) == 1


def test_ignored_when_the_wait_has_begun() -> None:
    begun = recorded("sleep", done=False, deadline=109.0)
    given(*EXECUTING, begun).when(recorded("sleep", done=False, deadline=200.0)).ignored()


@pytest.mark.parametrize("done", [True, False])
def test_ignored_when_already_recorded(done: bool) -> None:
    given(*EXECUTING, recorded("sleep")).when(recorded("sleep", done=done)).ignored()


def test_refused_when_the_execution_is_not_under_way() -> None:
    given(*EXECUTING, completed()).when(recorded("now", result=1.0)).fails(ErrorCode.INVALID_STATE, "not under way")


@pytest.mark.parametrize("request_", [None, {}, {"name": 1}, "approve"])
def test_refused_when_the_signal_has_no_name(request_: Any) -> None:
    given(*EXECUTING).when(recorded("signal", request_)).fails(ErrorCode.COMMAND_INVALID, "by name", "$.request.name")
