"""A window that ends while no process is there is over when one is there again, and what was spent in it forgotten."""

from __future__ import annotations

import time

from l02.bus.connection.streams import ensure_streams
from l02.client.client import Client
from l02.domain.budget.configuring import Configure
from l02.domain.budget.lending import BudgetReserved, Settle
from l02.domain.budget.state import BudgetLimits, BudgetState
from l02.domain.inference import Spending
from l02.domain.kernel.message import Command, Context
from l02.domain.spending.amounts import Amount
from l02.domain.spending.limits import LimitName
from tests.nodes.conftest import Cluster, until
from tests.resources.process import node

SPENT = Spending(tokens=70)


class LendBefore(Command, frozen=True, kw_only=True):
    """What was lent at another time."""

    at: float

    def decide(self, state: BudgetState, context: Context, /) -> list[BudgetReserved]:
        amount = Amount.of(SPENT)
        return [BudgetReserved(slice="s1", holder="gone", amount=amount, until=self.at, reserved=amount, at=self.at)]


async def test_a_limit_is_reset_though_no_process_was_there(cluster: Cluster, client: Client) -> None:
    await ensure_streams(client._bus)
    async with node(cluster.nats_url, "nobody") as part:
        await part.repository.record("b1", Configure(limits=BudgetLimits(tokens_per_hour=100)))
        await part.repository.record("b1", LendBefore(at=float(int(time.time()) - 3592)))
        await part.repository.record("b1", Settle(slice="s1", used=SPENT, closed=True))
        window = (await part.repository.load("b1")).state.windows[LimitName.TOKENS_PER_HOUR]
        assert window.used == SPENT.tokens

    async with cluster.node("one"):

        async def is_reset() -> bool:
            found = (await client.budget("b1")).spent[LimitName.TOKENS_PER_HOUR]
            return (found.used, found.left, found.reset_at) == (0, 100, None)

        await until(is_reset)
