"""What the client can say and ask about budgets."""

from __future__ import annotations

from collections.abc import Sequence

from l02.bus.commands.outcomes import Outcome
from l02.client.asking import Asking
from l02.domain.identifiers import require_id
from l02.domain.spending.limits import DEFAULT_THRESHOLDS, LimitAction, LimitName
from l02.projections.folds.budgets import BudgetView

_PAGE = 500


class BudgetVerbs(Asking):
    """The verbs of the client that are about budgets."""

    async def configure_budget(
        self,
        id: str,
        *,
        tokens_per_hour: int | None = None,
        tokens_per_day: int | None = None,
        cost_per_day: float | None = None,
        cost_total: float | None = None,
        parent: str | None = None,
        action: LimitAction | str = LimitAction.SUSPEND,
        warn_at: Sequence[float] = DEFAULT_THRESHOLDS,
        command_id: str | None = None,
    ) -> Outcome:
        """Make a budget, or say anew all that it allows: what is left out is at its default, whatever it was before.

        Costs are in USD; None is no limit, 0 allows nothing.
        """
        limits = {
            "tokens_per_hour": tokens_per_hour,
            "tokens_per_day": tokens_per_day,
            "cost_per_day": cost_per_day,
            "cost_total": cost_total,
        }
        fields = {"limits": limits, "parent": parent, "action": action, "warn_at": warn_at}
        return await self._send(id, "configure", fields, command_id, kind="budget")

    async def raise_budget(
        self,
        id: str,
        *,
        tokens_per_hour: int = 0,
        tokens_per_day: int = 0,
        cost_per_day: float = 0.0,
        cost_total: float = 0.0,
        always: bool = False,
        command_id: str | None = None,
    ) -> Outcome:
        """Add so much to its limits until they are reset, or `always`: until it is configured anew.

        Who waits for it goes on. Raises Failure E2110 for a limit that it has not.
        """
        added = {
            "tokens_per_hour": tokens_per_hour,
            "tokens_per_day": tokens_per_day,
            "cost_per_day": cost_per_day,
            "cost_total": cost_total,
        }
        amount = {limit: value for limit, value in added.items() if value}
        fields = {"amount": amount, "for": "always" if always else "window"}
        return await self._send(id, "raise", fields, command_id, kind="budget")

    async def deny_budget(self, id: str, *, command_id: str | None = None) -> Outcome:
        """Say no to all who ask for more of it. Raises Failure E2112 if its action is not `ask`."""
        return await self._send(id, "deny", {}, command_id, kind="budget")

    async def reset_budget(
        self, id: str, *, limits: Sequence[LimitName | str] | None = None, command_id: str | None = None
    ) -> Outcome:
        """Begin anew with these limits now, or with all of them."""
        fields = {} if limits is None else {"limits": list(limits)}
        return await self._send(id, "reset", fields, command_id, kind="budget")

    async def budget(self, id: str) -> BudgetView:
        """A budget as it is now. Raises Failure E2111 if there is none, NodeUnreachable if no node answers."""
        return await self._query("budget.get", {"id": require_id(id, "id")}, BudgetView)

    async def budgets(
        self, parent: str | None = None, *, limit: int = _PAGE, after: str | None = None
    ) -> list[BudgetView]:
        """At most `limit` budgets with ids above `after`, in the order of their ids: all, or the parts of `parent`."""
        return await self._query("budget.list", {"parent": parent, "limit": limit, "after": after}, list[BudgetView])
