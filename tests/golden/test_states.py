"""The number beside a fold is raised when the same events make another state, and only then."""

from __future__ import annotations

import pytest

from l02.domain.aggregates import AGGREGATES
from tests.golden.states import LIVES, folded, state_file


def test_every_aggregate_has_a_golden_life() -> None:
    assert LIVES.keys() == AGGREGATES.keys()
    for name, (aggregate, life) in LIVES.items():
        assert {type(event) for event in life} == set(aggregate.events), name


@pytest.mark.parametrize("name", sorted(LIVES))
def test_the_same_events_make_the_same_states(name: str) -> None:
    assert state_file(name).exists() and state_file(name).read_bytes() == folded(name), (
        f"raise the `fold_version` of {name} in domain/aggregates.py and run `python -m tests.golden.write`: "
        "states that earlier versions have kept are folded anew then"
    )
