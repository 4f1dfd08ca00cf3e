"""What every command and event of a budget has in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from l02.domain.budget.state import BudgetState
from l02.domain.kernel.message import Context, Event, WireCommand


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
