"""What an execution takes in, one thing at a time: answers, results of its own steps, and what threads came to.

In which order they are taken in decides what a handler does next, and so how its calls are numbered. At first that is
the order in which they come. When the execution is run again, what is on record is taken in as it was before, and all
else waits until that is done: nothing on record can rest on what is not.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from l02.bus.wire.agent.protocol import Step


class Place(NamedTuple):
    """What a step is known by: calls have numbers, and threads have their own."""

    is_thread: bool
    number: int


class Intake:
    """One per execution. `answers` are how many were taken in; so many as `on_record` come from the record."""

    def __init__(self, on_record: int = 0) -> None:
        self.answers = 0
        self._on_record = on_record
        self._steps: deque[Step] = deque()
        self._places: set[Place] = set()
        self._due: dict[Place, Callable[[], None]] = {}
        self._answers: deque[tuple[int, Callable[[], None]]] = deque()
        self._own: deque[tuple[int, Callable[[], None]]] = deque()
        self._count = itertools.count()

    def remember(self, steps: Iterable[Step]) -> None:
        """Steps that are on record, in their order."""
        for step in steps:
            self._steps.append(step)
            self._places.add(place_of(step))

    def answer(self, take: Callable[[], None]) -> None:
        """An answer of the node has come: `take` gives it to the handler."""
        self._answers.append((next(self._count), take))

    def own(self, place: Place, take: Callable[[], None]) -> None:
        """A step is done, or is on record and wanted: `take` gives its result to the handler."""
        if place in self._places:
            self._due[place] = take
        else:
            self._own.append((next(self._count), take))

    def is_on_record(self, place: Place) -> bool:
        """Whether that step is on record and not yet taken in."""
        return place in self._places

    @property
    def awaited(self) -> Step | None:
        """The step that is the next on record, if nothing else can be taken in before it."""
        return self._steps[0] if self._steps and self._steps[0].after <= self.answers else None

    @property
    def first_on_record(self) -> Step | None:
        """The next step on record, whatever comes before it."""
        return self._steps[0] if self._steps else None

    @property
    def is_replay(self) -> bool:
        """Whether anything on record has not been taken in."""
        return bool(self._steps) or self.answers < self._on_record

    @property
    def holds_back(self) -> bool:
        """Whether something that is done waits for the record."""
        return bool(self._own) and self.is_replay

    def take_in(self) -> bool:
        """Take in one thing; False if there is none whose turn it is."""
        take = self._next()
        if take is None:
            return False
        take()
        return True

    def take_in_held_back(self) -> None:
        """Take in the first of what waits for the record: it would wait in vain."""
        self._own.popleft()[1]()

    def _next(self) -> Callable[[], None] | None:
        step = self.awaited
        if step is not None:
            place = place_of(step)
            if place in self._due:
                self._steps.popleft()
                self._places.remove(place)
            return self._due.pop(place, None)
        if self._own and not self.is_replay and (not self._answers or self._own[0] < self._answers[0]):
            return self._own.popleft()[1]
        if not self._answers:
            return None
        self.answers += 1
        return self._answers.popleft()[1]


def place_of(step: Step) -> Place:
    """What it is known by."""
    return Place(step.kind == "thread", step.call)
