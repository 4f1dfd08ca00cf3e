"""What an aggregate's events are folded into, for the golden states that hold its `fold_version`."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path
from typing import Any

import msgspec

from l02.domain.aggregates import AGENT, AGGREGATES
from l02.domain.kernel.aggregate import Aggregate
from l02.domain.kernel.message import Event
from tests.golden.agent_life import agent_life
from tests.golden.samples import SAMPLES

STATES = Path(__file__).with_name("folded")
LIVES: dict[str, tuple[Aggregate[Any], list[Event]]] = {
    name: (aggregate, agent_life() if aggregate is AGENT else [SAMPLES[event.type].event for event in aggregate.events])
    for name, aggregate in AGGREGATES.items()
}


def state_file(name: str) -> Path:
    aggregate, _ = LIVES[name]
    return STATES / f"{name}.{aggregate.fold_version}.jsonl"


def folded(name: str) -> bytes:
    """The state after each event, one a line."""
    aggregate, life = LIVES[name]
    states = accumulate(life, aggregate.evolve, initial=aggregate.initial_state())
    return b"".join(msgspec.json.encode(state) + b"\n" for state in states)
