"""Whatever order calls, deaths and words come in: no more is spent than there is, and nothing stays reserved."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from l02.domain.budget.configuring import Configure
from l02.domain.budget.granting import Raise
from l02.domain.budget.resetting import Reset
from l02.domain.budget.state import BudgetLimits
from l02.domain.inference import Spending
from l02.domain.kernel.message import Command
from l02.domain.spending.limits import LimitName
from tests.resources.simulated import World, run

NODES = ("n1", "n2")
LEAVES = (("team-a",), ("team-b",), ("alone",), ("team-a", "alone"))
TOTAL = 400
"""USD, in millionths, of the root: it is never raised or reset, so that what was spent in truth can be held to it."""

# A call: where, on what, how many tokens and how much money at most, what part of that it comes to, how long it is on
# its way to the record, and to its end.
calls = st.tuples(
    st.just("call"),
    st.sampled_from(NODES),
    st.sampled_from(LEAVES),
    st.integers(0, 40),
    st.integers(1, 60),
    st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    st.sampled_from([0.0, 0.0, 1.0]),
    st.sampled_from([0.0, 0.01, 1.0, 5.0]),
)
deaths = st.one_of(
    st.tuples(st.just("kill"), st.sampled_from(NODES), st.booleans()),
    st.tuples(st.just("blink"), st.sampled_from(NODES)),
    st.tuples(st.just("blink"), st.sampled_from(NODES)),
    st.tuples(st.just("away"), st.sampled_from(NODES)),
    st.tuples(st.just("back")),
    st.tuples(st.just("lose"), st.integers(0, 5)),
    st.tuples(st.just("close"), st.sampled_from(NODES)),
)
words = st.one_of(
    st.tuples(st.just("raise"), st.sampled_from(["team-a", "alone"]), st.sampled_from(["window", "always"])),
    st.tuples(st.just("configure"), st.sampled_from(["team-a", "alone"]), st.integers(0, 300)),
    st.tuples(st.just("reset"), st.sampled_from(["team-a", "team-b", "alone"])),
)
sleeps = st.tuples(st.just("sleep"), st.sampled_from([0.0, 0.3, 3.0, 35.0]))
steps = st.one_of(calls, calls, calls, calls, sleeps, deaths, deaths, words)


@settings(max_examples=60)
@given(st.lists(steps, min_size=30, max_size=90))
def test_no_more_is_spent_than_there_is_and_nothing_stays_reserved(history: list[tuple[Any, ...]]) -> None:
    run(_live(history))


async def _live(history: list[tuple[Any, ...]]) -> None:
    world = World(*NODES)
    try:
        await _say(world, "root", Configure(limits=BudgetLimits(cost_total=TOTAL / 1e6)))
        await _say(world, "mid", Configure(limits=BudgetLimits(tokens_per_day=2000), parent="root"))
        for name in ("team-a", "team-b"):
            await _say(world, name, Configure(limits=BudgetLimits(tokens_per_hour=200), parent="mid"))
        await _say(world, "alone", Configure(limits=BudgetLimits(tokens_per_hour=100)))
        for step in history:
            await _do(world, *step)
            truth = world.journal.spent_of("root") + world.journal.open_of("root")
            assert truth.cost <= TOTAL
        await _end(world)
    finally:
        await world.close()


async def _do(world: World, kind: str, *what: Any) -> None:
    match kind, what:
        case "call", (node_id, budgets, tokens, cost, share, hesitates, seconds):
            if (node := world.nodes.get(node_id)) is not None:
                used = Spending(tokens=int(tokens * share), cost=int(cost * share))
                node.begin(node.call(budgets, Spending(tokens=tokens, cost=cost), used, hesitates, seconds))
        case "sleep", (seconds,):
            await asyncio.sleep(seconds)
        case "kill", (node_id, comes_back):
            if node_id in world.nodes:
                world.kill(node_id)
                await asyncio.sleep(0)
            if comes_back:
                world.start(node_id)
        case "away", (node_id,):
            if (node := world.nodes.get(node_id)) is not None:
                node.lease.lose()
        case "back", ():
            for node in world.nodes.values():
                node.lease.take()
        case "blink", (node_id,):  # long enough for the others to close what it had
            if (node := world.nodes.get(node_id)) is not None:
                node.lease.lose()
                for other in world.nodes.values():
                    if other.lease.is_held:
                        await other.reconciliation._look()
                node.lease.take()
        case "lose", (number,):
            _lose(world, number)
        case "close", (node_id,):
            if (node := world.nodes.get(node_id)) is not None and node.lease.is_held:
                await node.reconciliation._look()
        case "raise", (budget, how_long):
            await _say(world, budget, Raise(amount=BudgetLimits(tokens_per_hour=50), how_long=how_long))
        case "configure", (budget, tokens):
            parent = "mid" if budget == "team-a" else None
            await _say(world, budget, Configure(limits=BudgetLimits(tokens_per_hour=tokens), parent=parent))
        case "reset", (budget,):
            await _say(world, budget, Reset())
    await asyncio.sleep(0)


def _lose(world: World, number: int) -> None:
    """Work of a node that is dead is ended, or its call made again: what came of it nobody will say."""
    dead = [call for call in world.journal.open if call.execution_id not in world.nodes]
    for call in dead[: number + 1]:
        world.journal.lose(call)


async def _say(world: World, budget: str, command: Command) -> None:
    await world.outside.record(budget, command)


async def _end(world: World) -> None:
    for node in world.nodes.values():
        node.lease.take()
    await asyncio.sleep(15)
    for node_id in NODES:
        if node_id not in world.nodes:
            world.start(node_id)
    # What is open by now was under way on a process that has died.
    for call in list(world.journal.open):
        world.journal.lose(call)
    for _ in range(2):
        for node in world.nodes.values():
            await node.reconciliation._look()
        await asyncio.sleep(10)
    world.look()
    for budget, state in world.states.items():
        assert state.slices == {}, budget
        assert all(window.reserved == 0 for window in state.windows.values()), budget
    for budget in ("root", "mid"):
        spent = world.journal.spent_of(budget)
        windows = world.states[budget].windows
        if spent.cost:
            assert windows[LimitName.COST_TOTAL].used == spent.cost
        if spent.tokens:
            assert windows[LimitName.TOKENS_PER_DAY].used == spent.tokens
