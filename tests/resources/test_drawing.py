"""How a node draws on budgets, one thing at a time: on a clock that jumps, with nothing of NATS."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from l02.domain.budget.configuring import Configure
from l02.domain.budget.state import BudgetLimits
from l02.domain.inference import Spending
from l02.domain.spending.exhausted import Exhausted
from l02.domain.spending.limits import LimitAction, LimitName
from tests.resources.simulated import World, run

TEN = Spending(tokens=10)


def lived(test: Callable[[World], Awaitable[None]], *node_ids: str, **limits: Any) -> None:
    """Run it in a world with a budget `b` below a budget `top`."""

    async def live() -> None:
        world = World(*(node_ids or ("n1",)))
        try:
            await world.outside.record("top", Configure(limits=BudgetLimits(tokens_per_day=1_000_000)))
            await world.outside.record("b", Configure(limits=BudgetLimits(**limits), parent="top"))
            await test(world)
        finally:
            await world.close()

    run(live())


def events(world: World) -> Counter[str]:
    """What has happened to the budget `b`."""
    recorded = [world.log.at(number) for number in range(1, world.log.last + 1)]
    return Counter(item.event.type for item in recorded if item.aggregate.id == "b")


def reserved(world: World) -> int:
    world.look()
    return world.states["b"].reserved.tokens


def test_with_slices_in_hand_the_log_is_not_asked() -> None:
    async def test(world: World) -> None:
        budgets = world.nodes["n1"].budgets
        drawn = await budgets.reserve(("b",), TEN)
        assert [item.budget for item in drawn] == ["b", "top"]
        before = world.log.last
        for _ in range(7):
            assert await budgets.reserve(("b",), TEN) == drawn
        assert world.log.last == before
        assert await budgets.reserve((), TEN) == ()

    lived(test, tokens_per_hour=10_000)


def test_a_thousand_who_come_at_once_are_lent_to_together_and_in_order() -> None:
    async def test(world: World) -> None:
        budgets, served = world.nodes["n1"].budgets, []

        async def call(number: int) -> None:
            await budgets.reserve(("b",), TEN)
            served.append(number)

        await asyncio.gather(*map(call, range(1000)))
        assert served == [*range(1000)]
        assert events(world)["budget.reserved"] <= 20

    lived(test, tokens_per_hour=100_000)


def test_many_budgets_below_one_are_lent_to_side_by_side() -> None:
    async def test(world: World) -> None:
        names = [f"part-{number}" for number in range(100)]
        for name in names:
            await world.outside.record(name, Configure(limits=BudgetLimits(tokens_per_hour=1000), parent="top"))
        under_way = most = 0
        repository = world.nodes["n1"].repository
        record = repository.record_together

        async def counted(reports: Any, cause: str | None = None) -> Any:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            try:
                await asyncio.sleep(0.01)
                return await record(reports, cause)
            finally:
                under_way -= 1

        repository.record_together = counted  # type: ignore[method-assign]
        await asyncio.gather(*(world.nodes["n1"].budgets.reserve((name,), TEN) for name in names))
        assert most > 50

    lived(test, tokens_per_hour=1)


def test_near_the_limit_it_is_call_by_call() -> None:
    async def test(world: World) -> None:
        budgets = world.nodes["n1"].budgets
        for number in range(10):
            drawn = await budgets.reserve(("b",), TEN)
            assert reserved(world) <= 100 - 5 * number
            budgets.settle(drawn, TEN, Spending(tokens=5))
        await asyncio.sleep(1)
        assert reserved(world) == 0
        assert world.states["b"].windows[LimitName.TOKENS_PER_HOUR].used == 50

    lived(test, tokens_per_hour=100)


def test_what_another_node_does_not_use_is_had_before_it_would_give_it_back() -> None:
    async def test(world: World) -> None:
        one, two = (world.nodes[name].budgets for name in ("n1", "n2"))
        drawn = await one.reserve(("b",), TEN)
        one.settle(drawn, TEN, TEN)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await two.reserve(("b",), Spending(tokens=940))
        assert loop.time() - began < 1
        assert events(world)["budget.recalled"] == 1

    lived(test, "n1", "n2", tokens_per_hour=960)


def test_what_a_call_has_reserved_is_not_had_by_another() -> None:
    async def test(world: World) -> None:
        one, two = (world.nodes[name].budgets for name in ("n1", "n2"))
        drawn = await one.reserve(("b",), Spending(tokens=600))
        with pytest.raises(Exhausted) as refused:
            await two.reserve(("b",), Spending(tokens=600))
        assert refused.value.shortage.is_passing
        waiting = asyncio.create_task(two.room(refused.value))
        one.settle(drawn, Spending(tokens=600), TEN)
        await asyncio.wait_for(waiting, 2)
        await two.reserve(("b",), Spending(tokens=600))

    lived(test, "n1", "n2", tokens_per_hour=1000)


def test_who_does_not_wait_for_what_is_lent_leaves_nothing_reserved() -> None:
    async def test(world: World) -> None:
        budgets = world.nodes["n1"].budgets
        for turns in range(12):
            call = asyncio.create_task(budgets.reserve(("b",), TEN))
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait({call})
            if not call.cancelled():
                budgets.settle(call.result(), TEN, Spending())
            await asyncio.sleep(15)
            assert reserved(world) == 0, turns
        assert world.states["b"].slices == {}

    lived(test, tokens_per_hour=1000)


def test_lowering_takes_back_what_is_in_hand() -> None:
    async def test(world: World) -> None:
        budgets = world.nodes["n1"].budgets
        drawn = await budgets.reserve(("b",), TEN)
        await world.outside.record("b", Configure(limits=BudgetLimits(tokens_per_hour=15)))
        world.look()
        with pytest.raises(Exhausted, match="has 0 tokens left|has 5 tokens left"):
            await budgets.reserve(("b",), TEN)
        await asyncio.sleep(1)
        assert reserved(world) == 10
        budgets.settle(drawn, TEN, TEN)
        await asyncio.sleep(1)
        await budgets.reserve(("b",), Spending(tokens=5))

    lived(test, tokens_per_hour=1000)


def test_what_can_never_fit_is_said_whatever_is_short_elsewhere() -> None:
    async def test(world: World) -> None:
        budgets = world.nodes["n1"].budgets
        drawn = await budgets.reserve(("b",), Spending(tokens=900))
        budgets.settle(drawn, Spending(tokens=900), Spending(tokens=900))
        await world.outside.record("top", Configure(limits=BudgetLimits(cost_total=0.5)))
        with pytest.raises(Exhausted) as refused:
            await budgets.reserve(("b",), Spending(tokens=200, cost=500_001))
        assert (refused.value.budget, refused.value.shortage.could_fit) == ("top", False)
        with pytest.raises(Exhausted) as refused:
            await budgets.reserve(("b",), Spending(tokens=200, cost=500_000))
        assert (refused.value.budget, refused.value.action) == ("b", LimitAction.SUSPEND)

    lived(test, tokens_per_hour=1000)


def test_who_is_refused_alike_is_refused_without_asking_again() -> None:
    async def test(world: World) -> None:
        budgets = world.nodes["n1"].budgets
        drawn = await budgets.reserve(("b",), Spending(tokens=95))
        budgets.settle(drawn, Spending(tokens=95), Spending(tokens=95))
        await asyncio.sleep(1)
        refused = await asyncio.gather(*(budgets.reserve(("b",), TEN) for _ in range(50)), return_exceptions=True)
        assert len({id(error) for error in refused}) == 1
        assert isinstance(refused[0], Exhausted)
        assert events(world)["budget.exceeded"] == 1
        await budgets.reserve(("b",), Spending(tokens=5))  # which is less

    lived(test, tokens_per_hour=100)
