"""Code that takes part in folding cannot change without old snapshots being passed over."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from l02.bus.log.fingerprint import fingerprint
from l02.domain.aggregates import AGENT, NODE, Aggregate
from l02.domain.message import Event
from tests.bus.agent_life import agent_life
from tests.golden.samples import SAMPLES

NODE_LIFE = [sample.event for name, sample in SAMPLES.items() if name.startswith("node.")]
NEVER_FOLDING = ["l02.domain.agent.decider", "l02.domain.agent.sessions", "l02.domain.aggregates"]


def modules_at_work(aggregate: Aggregate[Any], events: list[Event]) -> set[str]:
    """The modules of the domain in which something ran while the events were folded."""
    seen = set()

    def profile(frame: FrameType, event: str, argument: object) -> None:
        seen.add(frame.f_globals["__name__"])

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        state = aggregate.initial_state()
        for event in events:
            state = aggregate.evolve(state, event)
    finally:
        sys.setprofile(before)
    return {name for name in seen if name.startswith("domain.")}


AGENT_MODULES = modules_at_work(AGENT, agent_life())
NODE_MODULES = modules_at_work(NODE, NODE_LIFE)
FOLDING: list[tuple[Aggregate[Any], str]] = [
    *((AGENT, name) for name in sorted(AGENT_MODULES)),
    (AGENT, "l02.domain.agent.event_parts"),  # nothing runs in it: it is what states are made of
    (AGENT, "l02.domain.upcasting"),
    *((NODE, name) for name in sorted(NODE_MODULES)),
]


@pytest.fixture
def change(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes this a program in which a module is another one."""
    getsource = inspect.getsource

    def changed(name: str) -> None:
        assert name in sys.modules
        monkeypatch.setattr(inspect, "getsource", lambda module: getsource(module) + "\n" * (module.__name__ == name))

    return changed


def test_the_rooms_of_the_fold_are_seen_at_work() -> None:
    assert {"l02.domain.agent.evolve", "l02.domain.agent.evolve_session", "l02.domain.agent.session"} <= AGENT_MODULES
    assert "l02.domain.node.state" in NODE_MODULES


@pytest.mark.parametrize(("aggregate", "name"), FOLDING, ids=lambda value: getattr(value, "name", value))
def test_a_change_of_any_of_them_is_another_fingerprint(
    change: Callable[[str], None], aggregate: Aggregate[Any], name: str
) -> None:
    before = fingerprint(aggregate, 1)
    change(name)
    assert fingerprint(aggregate, 1) != before


@pytest.mark.parametrize("name", NEVER_FOLDING)
def test_a_change_of_what_only_decides_is_none(change: Callable[[str], None], name: str) -> None:
    before = fingerprint(AGENT, 1)
    change(name)
    assert fingerprint(AGENT, 1) == before


def test_another_layout_is_another_fingerprint() -> None:
    assert fingerprint(AGENT, 2) != fingerprint(AGENT, 1)
