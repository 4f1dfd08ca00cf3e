"""One call of a model: its endpoints in their order, each tried as often as makes sense, until one answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from l02.domain.errors import ErrorCode, Failure
from l02.domain.inference import KnownInput, ModelFailure, ModelOutcome, ModelRequest, Spending

OnText = Callable[[str], Awaitable[None]]


class Models:
    """The models of a node by their aliases."""

    def quote(self, alias: str, request: ModelRequest, known: KnownInput | None = None) -> Spending:
        """The most that a call can use and cost, all attempts of one pass together.

        Raises Failure: E2101 for an alias that there is not, E2003 if no endpoint's context window can hold it.
        """
        raise Failure(ErrorCode.MODEL_UNAVAILABLE, f"this node has no model {alias!r}")

    async def call(
        self, alias: str, request: ModelRequest, *, agent_id: str, on_text: OnText | None = None
    ) -> ModelOutcome:
        """One pass over the alias's endpoints; never raises Failure. Cancelling it closes the connection."""
        return ModelOutcome(
            failure=ModelFailure(code=ErrorCode.MODEL_UNAVAILABLE, message=f"this node has no model {alias!r}")
        )
