"""A projector that has little to do is quick, one that has much takes its time, within bounds."""

from __future__ import annotations

import pytest

from l02.projections.projector.pace import gathering_seconds


@pytest.mark.parametrize(
    ("writing", "expected"), [(0.0, 0.025), (0.005, 0.025), (0.02, 0.1), (0.05, 0.25), (10.0, 0.25)]
)
def test_the_pause_grows_with_what_writing_takes(writing: float, expected: float) -> None:
    assert gathering_seconds(0.025, writing) == pytest.approx(expected)


@pytest.mark.parametrize(("events", "expected"), [(0, 0.025), (31, 0.025), (32, 0.2), (4_000, 0.2)])
def test_many_events_at_a_time_make_it_grow_too(events: int, expected: float) -> None:
    assert gathering_seconds(0.025, 0.001, events) == pytest.approx(expected)
    assert gathering_seconds(0.025, 1.0, events) == pytest.approx(0.25)
