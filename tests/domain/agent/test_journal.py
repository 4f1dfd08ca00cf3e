"""A journal that grows at the cost of what is added, and is as good as a tuple to whoever holds one."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from l02.domain.agent.execution import Execution, Journal, JournalEntry
from l02.domain.agent.state import AgentState
from l02.domain.agent.work.effects import EffectRecorded, RecordedStep, StepsRecorded, ToolCalled
from l02.domain.aggregates import AGENT
from l02.domain.inference import Spending
from l02.domain.kernel.message import Report
from l02.domain.kernel.states import encode_state, state_decoder
from tests.domain.agent.story import EXECUTING, given
from tests.domain.given_when_then import context
from tests.domain.json_values import json_values

entries = st.builds(
    JournalEntry,
    call=st.integers(1, 5),
    kind=st.sampled_from(["tool", "now", "thread"]),
    request=json_values,
    ok=st.booleans(),
    result=json_values,
    after=st.just(msgspec.UNSET) | st.integers(0, 9),
)
growth = st.lists(st.tuples(st.integers(0, 20), st.lists(entries, max_size=3)), max_size=20)


@for_all(growth)
def test_what_has_grown_out_of_one_leaves_it_as_it_was(steps: list[tuple[int, list[JournalEntry]]]) -> None:
    grown: list[tuple[Journal, tuple[JournalEntry, ...]]] = [(Journal(), ())]
    for which, added in steps:
        journal, as_tuple = grown[which % len(grown)]
        grown.append((journal.plus(*added), (*as_tuple, *added)))
    for journal, as_tuple in grown:
        assert tuple(journal) == journal.as_tuple() == as_tuple
        assert journal == as_tuple and journal == Journal(as_tuple) and len(journal) == len(as_tuple)
        assert (
            bool(journal) is bool(as_tuple)
            and journal[-2:] == as_tuple[-2:]
            and [*reversed(journal)] == [*reversed(as_tuple)]
        )
        for call in range(7):
            of_call = [entry for entry in as_tuple if entry.call == call and entry.kind != "thread"]
            of_thread = [entry for entry in as_tuple if entry.call == call and entry.kind == "thread"]
            assert journal.answer(call) is (of_call[0] if of_call else None)
            assert journal.at((True, call)) is (of_thread[0] if of_thread else None)
        with pytest.raises(IndexError):
            journal[len(as_tuple)]


@for_all(st.lists(entries, max_size=3))
def test_it_is_stored_as_a_tuple_is_and_read_from_that(made: list[JournalEntry]) -> None:
    class Before(msgspec.Struct, kw_only=True):
        execution_id: str
        input: Any
        awaited_by: str | None = None
        deadline: float | None = None
        journal: tuple[JournalEntry, ...] = ()
        waiting: dict[int, Any] = {}
        requested_tools: dict[int, Any] = {}
        approvals: dict[int, Any] = {}
        asked_models: dict[int, Any] = {}
        blocked: dict[int, Any] = {}
        spent: Spending = Spending()
        warned_percent: int = 0

    raw = msgspec.json.encode(Before(execution_id="x1", input=None, journal=tuple(made)))
    execution = Execution(execution_id="x1", input=None, journal=Journal(made))
    assert encode_state(execution) == raw
    assert state_decoder(Execution).decode(raw) == execution
    state = AgentState(executions={"x1": execution})
    assert state_decoder(AgentState).decode(encode_state(state)) == state


@pytest.mark.parametrize("journal", [b"7", b"{}", b"[7]", b'[{"call": "one"}]'])
def test_what_is_no_journal_is_not_read_as_one(journal: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        state_decoder(Execution).decode(b'{"execution_id": "x1", "input": null, "journal": ' + journal + b"}")


def test_a_state_holds_nothing_else_that_msgspec_does_not_know() -> None:
    with pytest.raises(NotImplementedError, match="complex"):
        encode_state({"a": 1j})


def _tool(call: int) -> Report:
    return ToolCalled(
        execution_id="x1", call=call, tool="t", arguments={}, ok=True, result=call, attempts=1, duration_seconds=0.1
    )


def _effect(call: int) -> Report:
    return EffectRecorded(execution_id="x1", call=call, kind="now", request={}, result=call)


def _steps(call: int) -> Report:
    steps = (
        RecordedStep(call=call, kind="now", after=0, result=1.5),
        RecordedStep(call=call, kind="thread", after=0),
    )
    return StepsRecorded(execution_id="x1", steps=steps)


@pytest.mark.parametrize("report", [_tool, _effect, _steps])
def test_ten_thousand_effects_cost_four_times_what_a_quarter_of_them_costs(report: Callable[[int], Report]) -> None:
    few_calls, few_bytes = _cost(report, 2_500)
    many_calls, many_bytes = _cost(report, 10_000)
    assert many_calls == pytest.approx(4 * few_calls, rel=0.1), "something is looked through for each effect"
    assert many_bytes < 5 * few_bytes, "something is copied for each effect"


def _cost(report: Callable[[int], Report], effects: int) -> tuple[int, int]:
    """The calls that deciding and applying so many makes, and the bytes of all the states that it makes."""
    states = [given(*EXECUTING).state]
    now = context()
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    tracemalloc.start()
    sys.setprofile(count)
    try:
        for call in range(1, effects + 1):
            (event,) = AGENT.decide(states[-1], report(call), now)
            states.append(AGENT.evolve(states[-1], event))
    finally:
        sys.setprofile(None)
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert len(states[-1].executions["x1"].journal) >= effects
    return calls, size
