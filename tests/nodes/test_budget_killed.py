"""Agents on two nodes draw on three levels of budgets, and a node is killed: spent is what the journals say."""

from __future__ import annotations

import asyncio
import random
import signal
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET

from l02.client.client import Client
from l02.domain.agent.execution import LostModelCall
from l02.domain.agent.work.executions import ExecutionCompleted, ExecutionFailed
from l02.domain.agent.work.models import ModelCalled, ModelRequested
from l02.domain.inference import Spending
from l02.domain.spending.limits import LimitName
from tests.models.endpoint import Asked, scripted_endpoint
from tests.models.shapes import Say
from tests.nodes.conftest import Cluster, until
from tests.resources.process import LogViews

ASKER = Path(__file__).parents[1] / "model_calls" / "agents" / "asker.py"
BUDGETS = ("team", "department", "organisation")
EACH, ROUNDS, CALLS, OUTPUT = 4, 3, 10, 100
TOKENS = 12_000
_SETTINGS = """
models:
  small:
    - endpoint: {url}
      model: any
      price: {{input: 1.0, output: 2.0}}
      max_output: {output}
"""


async def test_what_is_spent_is_what_the_journals_say(
    cluster: Cluster, client: Client, spawn: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance, answered = random.Random(7), 0
    half = asyncio.Event()

    async def script(asked: Asked) -> Say:
        nonlocal answered
        await asyncio.sleep(chance.choice([0.0, 0.05, 0.3]))
        answered += 1
        if answered == EACH * CALLS:
            half.set()
        return Say("ok", usage=(chance.randint(1, 20), chance.randint(1, OUTPUT)))

    async with scripted_endpoint() as endpoint:
        endpoint.script = script
        settings = tmp_path / "l02.yaml"
        settings.write_text(_SETTINGS.format(url=endpoint.url, output=OUTPUT))
        monkeypatch.setenv("L02_CONFIG", str(settings))
        async with cluster.node("one") as one, cluster.node("two"):
            await until(lambda: _both(client))
            await client.configure_budget(BUDGETS[2], cost_total=1)
            await client.configure_budget(BUDGETS[1], tokens_per_day=2 * TOKENS, parent=BUDGETS[2])
            await client.configure_budget(BUDGETS[0], tokens_per_hour=TOKENS, parent=BUDGETS[1], action="refuse")
            agents = [*await spawn(EACH, entrypoint=str(ASKER), models=["small"], budget=BUDGETS[0])]
            steps = [["gather", *({"messages": "hi", "model": "small"} for _ in range(CALLS))] for _ in range(ROUNDS)]
            working = [asyncio.create_task(client.execute(agent_id, steps)) for agent_id in agents]
            await half.wait()
            one.send(signal.SIGKILL)
            outcomes = [await task for task in working]
            views = LogViews(client._bus)

            async def is_settled() -> bool:
                await views.look()
                return not any(view.slices for view in views.views.values())

            await until(is_settled, seconds=60)
    for view in views.history:
        for item in view.spent.values():
            assert item.left is None or item.amount is None or item.used + item.reserved <= item.amount + 1e-9
    codes = {answer.get("code", "answered") for outcome in outcomes for step in outcome.output for answer in step}
    assert codes <= {"answered", "E2072"}
    spent, lost = Spending(), 0
    for agent_id in agents:
        of_agent, calls = await _spent(client, agent_id)
        spent, lost = spent + of_agent, lost + calls
    assert lost, "the node was killed while models answered"
    for budget in BUDGETS:
        found = views.views[budget].spent
        assert found[LimitName.TOKENS_PER_DAY].used == spent.tokens, budget
        assert round(found[LimitName.COST_TOTAL].used * 1e6) == spent.cost, budget
        assert all(item.reserved == 0 for item in found.values())


async def _both(client: Client) -> bool:
    return len(await client.nodes()) == 2


async def _spent(client: Client, agent_id: str) -> tuple[Spending, int]:
    """What the agent's events say, one by one, and of how many calls nobody knows what came of them."""
    spent, count = Spending(), 0
    async for recorded in client.events(agent_id):
        lost: tuple[LostModelCall, ...] = ()
        match recorded.event:
            case ModelCalled() | ModelRequested() as event:
                spent += event.used if isinstance(event, ModelCalled) else Spending()
                count += isinstance(event, ModelCalled) and event.again and event.estimated
                lost = () if event.lost is UNSET else (event.lost,)
            case ExecutionCompleted() | ExecutionFailed() as ended:
                lost = ended.lost or ()
        for call in lost:
            spent, count = spent + call.reserved.spending, count + 1
    return spent, count
