"""What the executor needs of others to ask models: who asks them, and who lends what that costs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from l02.domain.errors import Failure
from l02.domain.inference import Drawn, KnownInput, ModelOutcome, ModelRequest, PassBegin, Spending

OnText = Callable[[str], Awaitable[None]]


class Models(Protocol):
    """The models of a node, by their aliases."""

    def quote(self, alias: str, request: ModelRequest, known: KnownInput | None) -> Spending:
        """The most that one pass can use and cost; Failure if it cannot be made."""

    async def call(
        self,
        alias: str,
        request: ModelRequest,
        *,
        agent_id: str,
        on_text: OnText | None,
        known: KnownInput | None,
        begin: PassBegin,
    ) -> ModelOutcome:
        """One pass over the alias's endpoints. Never raises Failure; cancelled, it closes the connection."""


class Budgets(Protocol):
    """What this node has in hand of budgets."""

    async def reserve(self, budgets: tuple[str, ...], spending: Spending) -> tuple[Drawn, ...]:
        """Take so much from slices of these budgets and of all above them; Failure (E2072) if one has not got it."""

    def holds(self, drawn: Sequence[Drawn]) -> bool:
        """Whether these slices are still this node's."""

    def settle(self, drawn: Sequence[Drawn], reserved: Spending, used: Spending) -> None:
        """A call that had `reserved` has ended and `used` so much; said once for each that was reserved."""


class Limits(Protocol):
    """What becomes of a call that a limit is in the way of, the agent's own or a budget's."""

    async def met(self, agent_id: str, execution_id: str, call: int, needed: Spending, refused: Failure) -> None:
        """A call that may need so much was `refused` (E2072). When this returns, it may be tried again; Failure if it
        may not.
        """
