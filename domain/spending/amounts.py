"""How a spending stands in events: tokens, and US dollars."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from l02.domain.inference import MAX_COUNT, Count, Spending
from l02.domain.spending.money import in_millionths, in_usd


class Amount(Struct, frozen=True, kw_only=True):
    """A spending as it is said."""

    tokens: Count
    cost_usd: Annotated[float, Meta(ge=0)]

    @classmethod
    def of(cls, spending: Spending) -> Amount:
        """The same in USD."""
        return cls(tokens=spending.tokens, cost_usd=in_usd(spending.cost))

    @property
    def spending(self) -> Spending:
        """The same in millionths."""
        return Spending(tokens=self.tokens, cost=min(in_millionths(self.cost_usd), MAX_COUNT))
