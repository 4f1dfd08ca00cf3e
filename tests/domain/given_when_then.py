"""Decider tests read as given–when–then: what has happened, what is asked, what follows."""

from __future__ import annotations

from functools import reduce
from typing import Generic, TypeVar

import pytest

from l02.domain.errors import ErrorCode, Failure
from l02.domain.kernel.aggregate import Aggregate
from l02.domain.kernel.message import Command, Context, Event, Metadata, Report

S = TypeVar("S")


def context(
    command_id: str = "c1",
    *,
    node_id: str = "n1",
    actor: str = "alice",
    time: float = 1000.0,
    aggregate_id: str = "a1",
    incarnation: int | None = None,
) -> Context:
    """Alice asks it of the agent's node."""
    metadata = Metadata(causation_id=command_id, correlation_id=command_id, actor=actor)
    return Context(aggregate_id=aggregate_id, node_id=node_id, time=time, metadata=metadata, incarnation=incarnation)


class Given(Generic[S]):
    """An aggregate with a past."""

    def __init__(self, aggregate: Aggregate[S], past: tuple[Event, ...]) -> None:
        self.aggregate = aggregate
        self.past = past

    @property
    def state(self) -> S:
        return reduce(self.aggregate.evolve, self.past, self.aggregate.initial_state())

    def and_then(self, *events: Event) -> Given[S]:
        return Given(self.aggregate, (*self.past, *events))

    def when(
        self,
        command: Command | Report,
        *,
        command_id: str = "c1",
        node_id: str = "n1",
        actor: str = "alice",
        time: float = 1000.0,
        incarnation: int | None = None,
    ) -> When[S]:
        now = context(command_id, node_id=node_id, actor=actor, time=time, incarnation=incarnation)
        return When(self, command, now)


class When(Generic[S]):
    """What an aggregate with a past is asked or told. `then`, `ignored` and `fails` are the three ways it can end."""

    def __init__(self, given: Given[S], command: Command | Report, context: Context) -> None:
        self._given = given
        self._command = command
        self._context = context

    def then(self, *events: Event) -> Given[S]:
        """Exactly these events follow; the aggregate with them, to look at or to go on from."""
        assert events, "say `ignored` if nothing follows"
        assert self.decided() == list(events)
        return self._given.and_then(*events)

    def ignored(self) -> None:
        assert self.decided() == []

    def fails(self, code: ErrorCode, saying: str = "", path: str | None = None) -> None:
        with pytest.raises(Failure) as caught:
            self.decided()
        assert caught.value.code is code
        assert saying in caught.value.message
        assert caught.value.path == path

    def decided(self) -> list[Event]:
        """What follows, to look at."""
        return self._given.aggregate.decide(self._given.state, self._command, self._context)
