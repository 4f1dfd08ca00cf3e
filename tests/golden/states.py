"""What an aggregate's events are folded into, for the golden states that hold its `fold_version`."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import accumulate
from pathlib import Path
from typing import Any

import msgspec

from l02.domain.aggregates import AGENT, AGGREGATES
from l02.domain.kernel.aggregate import Aggregate
from l02.domain.kernel.message import Event
from l02.domain.kernel.states import encode_state, state_decoder
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


def folded(name: str, types: Collection[str] | None = None) -> list[tuple[str, Any]]:
    """The type of each event of the life, if it is one of `types`, and the state after those."""
    aggregate, life = LIVES[name]
    events = [event for event in life if types is None or event.type in types]
    states = [*accumulate(events, aggregate.evolve, initial=aggregate.initial_state())]
    return [(event.type, state) for event, state in zip(events, states[1:], strict=True)]


def kept(name: str) -> list[tuple[str, Any]]:
    """The same as it was kept: the states are read as this version reads those that another has kept."""
    lines = state_file(name).read_bytes().splitlines()
    read = state_decoder(type(LIVES[name][0].initial_state()))
    pairs = (msgspec.json.decode(line, type=tuple[str, msgspec.Raw]) for line in lines)
    return [(event_type, read.decode(state)) for event_type, state in pairs]


def still_holds(name: str) -> bool:
    """Whether the events that were there make the states that were kept."""
    states = kept(name)
    return states == folded(name, {event_type for event_type, _ in states})


def as_lines(states: Iterable[tuple[str, Any]]) -> bytes:
    """What is kept of them, one a line."""
    return b"".join(encode_state(pair) + b"\n" for pair in states)
