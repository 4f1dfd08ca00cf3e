"""What every command and event of a budget has in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import reduce

from l02.domain.budget.state import BudgetState
from l02.domain.kernel.message import Command, Context, Event, WireCommand


class BudgetEvent(Event, frozen=True, kw_only=True):
    """Something that has happened to a budget."""

    @abstractmethod
    def evolve(self, budget: BudgetState, /) -> BudgetState:
        """The budget after it."""


class BudgetCommand(WireCommand, frozen=True, kw_only=True):
    """What anybody may ask of a budget."""

    @abstractmethod
    def decide(self, budget: BudgetState, context: Context, /) -> Sequence[BudgetEvent]:
        """The events that follow."""


class BudgetUse(Command, frozen=True, kw_only=True):
    """What a node does with a budget."""

    @abstractmethod
    def decide(self, budget: BudgetState, context: Context, /) -> Sequence[BudgetEvent]:
        """The events that follow."""


def after(budget: BudgetState, events: Sequence[BudgetEvent]) -> BudgetState:
    """The budget after these events."""
    return reduce(lambda state, event: event.evolve(state), events, budget)
