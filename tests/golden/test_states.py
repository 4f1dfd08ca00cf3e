"""The number beside a fold is raised when the same events make another state, and only then."""

from __future__ import annotations

import pytest

from l02.domain.aggregates import AGGREGATES
from tests.golden.states import LIVES, folded, kept, state_file, still_holds


def test_every_aggregate_has_a_golden_life() -> None:
    assert LIVES.keys() == AGGREGATES.keys()
    for name, (aggregate, life) in LIVES.items():
        assert {type(event) for event in life} == set(aggregate.events), name


@pytest.mark.parametrize("name", sorted(LIVES))
def test_the_same_events_make_the_same_states(name: str) -> None:
    assert state_file(name).exists() and still_holds(name), (
        f"raise the `fold_version` of {name} in domain/aggregates.py and run `python -m tests.golden.write`: "
        "states that earlier versions have kept are folded anew then"
    )


@pytest.mark.parametrize("name", sorted(LIVES))
def test_no_event_is_missing(name: str) -> None:
    assert {event_type for event_type, _ in kept(name)} == {event.type for event in LIVES[name][0].events}, (
        "run `python -m tests.golden.write`"
    )
    assert kept(name) == folded(name)
