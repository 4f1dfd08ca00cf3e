"""Decider tests read as given–when–then: what has happened, what is asked, what follows."""

from __future__ import annotations

from functools import reduce
from typing import Generic, TypeVar

import pytest

from l02.domain.aggregates import Aggregate
from l02.domain.errors import ErrorCode, Failure
from l02.domain.message import Command, Event

S = TypeVar("S")


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

    def when(self, command: Command) -> When[S]:
        return When(self, command)


class When(Generic[S]):
    """A command to an aggregate with a past. `then`, `ignored` and `fails` are the three ways it can end."""

    def __init__(self, given: Given[S], command: Command) -> None:
        self._given = given
        self._command = command

    def then(self, *events: Event) -> Given[S]:
        """Exactly these events follow; the aggregate with them, to look at or to go on from."""
        assert events, "say `ignored` if nothing follows"
        assert self._decide() == list(events)
        return self._given.and_then(*events)

    def ignored(self) -> None:
        assert self._decide() == []

    def fails(self, code: ErrorCode, saying: str = "", path: str | None = None) -> None:
        with pytest.raises(Failure) as caught:
            self._decide()
        assert caught.value.code is code
        assert saying in caught.value.message
        assert caught.value.path == path

    def _decide(self) -> list[Event]:
        return self._given.aggregate.decide(self._given.state, self._command)
