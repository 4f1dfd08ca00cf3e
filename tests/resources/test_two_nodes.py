"""A thousand callers on one budget over two nodes, one of which is killed: no more is spent than there is."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter

import pytest

from l02.bus.connection.bus import Bus, connect
from l02.bus.connection.streams import ensure_streams
from l02.bus.embedded import EmbeddedNats
from l02.bus.log.event_store import open_event_store
from l02.bus.log.history import read_log_entries
from l02.bus.log.repository import Repository
from l02.bus.wire.codec import RecordedEvent
from l02.bus.wire.subjects import events_filter
from l02.domain.agent.state import AgentState
from l02.domain.agent.work.executions import ExecutionFailed
from l02.domain.agent.work.models import ModelCalled, ModelRequested
from l02.domain.aggregates import AGENT, AGGREGATES, BUDGET
from l02.domain.budget.configuring import Configure
from l02.domain.budget.state import BudgetLimits
from tests.bus.toy import until
from tests.resources.process import AGENTS, LogViews

CALLERS = 500
LEVELS = ("team", "department", "organisation")


@pytest.mark.parametrize("levels", [1, 3])
async def test_no_more_is_spent_than_there_is_though_a_node_is_killed(fresh_nats: EmbeddedNats, levels: int) -> None:
    budgets = LEVELS[:levels]
    async with connect(fresh_nats.url, name="test", aggregates=AGGREGATES) as bus, open_event_store(bus) as store:
        await ensure_streams(bus)
        outside = Repository(BUDGET, store, "people")
        for place, budget in reversed([*enumerate(budgets)]):
            limits = BudgetLimits(tokens_per_day=60_000 + 1000 * place, cost_total=0.03)
            parent = budgets[place + 1] if place + 1 < levels else None
            await outside.record(budget, Configure(limits=limits, parent=parent))
        views = LogViews(bus)
        first, second = await _process(fresh_nats.url, "n1"), await _process(fresh_nats.url, "n2")

        async def has_spent() -> bool:
            await views.look()
            return views.views["team"].spent["tokens_per_day"].used > 8_000  # type: ignore[index]

        await until(has_spent, seconds=60)
        first.kill()
        await first.wait()
        await _end_its_work(Repository(AGENT, store, "n1"))
        assert await asyncio.wait_for(second.wait(), 120) == 0

        async def is_closed() -> bool:
            await views.look()
            return not any(view.slices for view in views.views.values())

        if not await is_closed():
            third = await _process(fresh_nats.url, "n3", callers=0)
            await until(is_closed, seconds=60)
            third.kill()
            await third.wait()
        for view in views.history:
            for limit, item in view.spent.items():
                assert item.amount is None or item.used + item.reserved <= item.amount + 1e-9, (view.id, limit, item)
        spent = await _spent(bus)
        for budget in budgets:
            found = views.views[budget].spent
            assert {limit: item.reserved for limit, item in found.items() if item.reserved} == {}
            used = found["tokens_per_day"].used, round(found["cost_total"].used * 1e6)  # type: ignore[index]
            assert used == (spent["tokens"], spent["cost"])
        assert spent["tokens"] > 30_000 or spent["cost"] > 15_000, "they have hardly begun"


async def _process(url: str, node_id: str, callers: int = CALLERS) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.resources.process",
        url,
        node_id,
        "team",
        str(callers),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process


async def _end_its_work(agents: Repository[AgentState]) -> None:
    """As the node does that takes the agents over and cannot go on with their work."""
    for place in range(AGENTS):
        agent_id = f"n1-{place}"
        failed = ExecutionFailed(execution_id=f"x-{agent_id}", code="E2005", message="its node was lost")
        await agents.record(agent_id, failed)


async def _spent(bus: Bus) -> Counter[str]:
    """What the journals say, call by call."""
    spent: Counter[str] = Counter()
    open_calls: dict[tuple[str, int], ModelRequested] = {}
    after, more = 0, True
    while more:
        entries, more = await read_log_entries(bus, events_filter("agent"), after=after)
        for entry in entries:
            after = entry.sequence
            assert isinstance(entry, RecordedEvent)
            match entry.event:
                case ModelRequested() as asked:
                    open_calls[entry.aggregate.id, asked.call] = asked
                case ModelCalled() as called:
                    del open_calls[entry.aggregate.id, called.call]
                    spent.update(tokens=called.used.tokens, cost=called.used.cost)
    for asked in open_calls.values():
        spent.update(tokens=asked.reserved.tokens, cost=asked.reserved.spending.cost)
    return spent
