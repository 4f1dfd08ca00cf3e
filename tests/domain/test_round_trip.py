"""Events with any JSON inside are read as they were written."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from l02.domain.agent.state import StateChange
from l02.domain.agent.work.effects import EffectRecorded, RecordedStep, StepsRecorded, ToolCalled
from l02.domain.agent.work.executions import ExecutionCompleted, ExecutionStarted
from l02.domain.agent.work.signals import SignalReceived
from l02.domain.kernel.message import Event
from tests.domain.json_values import json_values, texts
from tests.domain.read_back import read_back

ids = st.from_regex(r"[A-Za-z0-9_-]{1,128}", fullmatch=True)
changes = st.builds(
    StateChange,
    set=st.dictionaries(texts, json_values, max_size=3),
    delete=st.lists(texts, max_size=3).map(tuple),
)
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(ExecutionStarted, execution_id=ids, input=json_values),
    st.builds(SignalReceived, name=texts, payload=json_values),
    st.builds(
        ToolCalled,
        execution_id=ids,
        call=st.integers(1),
        tool=texts,
        arguments=json_values,
        ok=st.booleans(),
        result=json_values,
        attempts=st.integers(0, 9),
        duration_seconds=st.floats(0, 1e9),
    ),
    st.builds(
        EffectRecorded,
        execution_id=ids,
        call=st.integers(1),
        kind=texts,
        request=json_values,
        result=json_values,
        done=st.booleans(),
        deadline=st.none() | st.floats(0, 1e12),
    ),
    st.builds(
        StepsRecorded,
        execution_id=ids,
        steps=st.lists(
            st.builds(
                RecordedStep,
                call=st.integers(1),
                kind=texts,
                after=st.integers(0),
                tool=texts | st.just(msgspec.UNSET),
                arguments=json_values | st.just(msgspec.UNSET),
                ok=st.booleans(),
                result=json_values,
            ),
            max_size=3,
        ).map(tuple),
    ),
    st.builds(
        ExecutionCompleted,
        execution_id=ids,
        output=json_values,
        tokens=st.integers(0),
        duration_seconds=st.floats(0, 1e9),
        calls=st.integers(0),
        state=changes | st.just(msgspec.UNSET),
    ),
)


@given(events)
def test_an_event_is_read_as_it_was_written(event: Event) -> None:
    assert read_back(event) == event
