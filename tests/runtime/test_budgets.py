"""A budget at a node, from the wire, by request, by our client and on the command line: it is what was last said."""

from __future__ import annotations

import re
import uuid

import msgspec
import pytest

from l02.bus.commands.outcomes import ErrorBody
from l02.client.client import Client
from l02.domain.budget.state import BudgetLimits
from l02.domain.errors import Failure
from l02.domain.spending.limits import LimitAction
from l02.node.running import Node
from l02.projections.folds.budgets import BUDGET_FOLD
from l02.projections.tables.database import connect
from l02.projections.views.bucket import ViewBucket
from l02.projections.views.projector import VIEWS
from tests.runtime.conftest import Raw
from tests.runtime.test_checkpoint_cli import as_json, l02

BODY = {"limits": {"tokens_per_hour": 5000, "cost_per_day": 12.5}, "parent": "research", "action": "ask"}


@pytest.fixture
def budget_id() -> str:
    return f"b{uuid.uuid4().hex[:10]}"


async def test_happened_ignored_and_wrong_version_over_nats(raw: Raw, client: Client, budget_id: str) -> None:
    subject, body = f"l02.cmd.budget.{budget_id}.configure", msgspec.json.encode(BODY)
    done = await raw.publish(subject, body)
    assert (done.ok, done.subject, done.version, done.events) == (True, f"budget/{budget_id}", 1, ["budget.configured"])
    again = await raw.publish(subject, body)
    assert (again.ok, again.version, again.events) == (True, 1, [])
    late = await raw.publish(subject, msgspec.json.encode({"limits": {}, "expected_version": 3}))
    assert isinstance(late.error, ErrorBody) and late.error.code == "E2113"
    budget = await client.budget(budget_id)
    assert budget.limits == BudgetLimits(tokens_per_hour=5000, cost_per_day=12.5)
    assert (budget.parent, budget.action, budget.warn_at, budget.version) == ("research", "ask", (0.8, 0.9), 1)


async def test_by_request(raw: Raw, budget_id: str) -> None:
    made = await raw.request("budget.configure", {"id": budget_id, "limits": {"cost_total": 0.000001}})
    assert (made["ok"], made["version"]) == (True, 1)
    found = await raw.request("budget.get", {"id": budget_id})
    assert found["result"]["limits"]["cost_total"] == 0.000001
    assert found["result"]["limits"]["tokens_per_day"] is None
    listed = await raw.request("budget.list", {"limit": 1000})
    assert found["result"] in listed["result"]
    read = await raw.request("events.read", {"aggregate": "budget", "id": budget_id})
    assert [event["type"] for event in read["result"]["events"]] == ["budget.configured"]
    for fields, path in (
        ({"limits": {"cost_total": 1e-7}}, "$.limits.cost_total"),
        ({"limits": {}, "parent": budget_id}, "$.parent"),
        ({"limits": {}, "action": "pray"}, "$.action"),
    ):
        refused = await raw.request("budget.configure", {"id": budget_id, **fields})
        assert (refused["error"]["code"], refused["error"]["path"]) == ("E2110", path)
    nobody = await raw.request("budget.get", {"id": "nobody"})
    assert nobody["error"]["code"] == "E2111"


async def test_by_our_client(client: Client, node: Node, budget_id: str) -> None:
    parts = [f"{budget_id}-{number}" for number in range(3)]
    await client.configure_budget(budget_id, cost_total=100, action=LimitAction.TERMINATE, warn_at=[0.5])
    for part in parts:
        await client.configure_budget(part, tokens_per_day=0, parent=budget_id)
    assert [budget.id for budget in await client.budgets(budget_id)] == parts
    assert [budget.id for budget in await client.budgets(budget_id, after=parts[0], limit=1)] == [parts[1]]
    first = await client.budget(budget_id)
    assert (first.limits.cost_total, first.action, first.warn_at) == (100.0, "terminate", (0.5,))
    await client.configure_budget(budget_id)
    second = await client.budget(budget_id)
    assert (second.limits, second.action, second.warn_at) == (BudgetLimits(), "suspend", (0.8, 0.9))
    assert (second.created_at, second.version) == (first.created_at, 2)
    assert second.updated_at > first.updated_at
    with pytest.raises(Failure, match="E2110.*'a b' is not an id") as refused:
        await client.configure_budget(budget_id, parent="a b")
    assert refused.value.path == "$.parent"
    for cost in (float("nan"), float("inf")):
        with pytest.raises(Failure, match="E2110"):  # in JSON it would be null: no limit
            await client.configure_budget(budget_id, cost_total=cost)
    await node.parts.read_model.wait_for(VIEWS, second.sequence)
    live = await ViewBucket(node.parts.bus).load(f"budget.{budget_id}")
    assert live.value is not None and BUDGET_FOLD.decode(live.value) == second
    async with connect(node.runtime["postgres_url"]) as connection:
        row = await connection.fetchrow(
            "SELECT parent, action, created_at, updated_at, version, sequence FROM budgets WHERE id = $1", parts[2]
        )
    last = await client.budget(parts[2])
    assert row is not None
    assert tuple(row) == (budget_id, "suspend", last.created_at, last.updated_at, 1, last.sequence)


async def test_on_the_command_line(node: Node, budget_id: str) -> None:
    words = ("--tokens-per-hour", "1000", "--cost-per-day", "0.25", "--parent", "research", "--action", "throttle")
    configure = ("budget", "configure", budget_id, *words, "--warn-at", "0.5,0.75")
    assert (await l02(node, *configure))[1] == f"budget {budget_id} is configured\n"
    assert (await l02(node, *configure))[1] == f"budget {budget_id} is as it was\n"
    shown = (await l02(node, "budget", "show", budget_id))[1]
    pairs = dict(re.split(" {2,}", line, maxsplit=1) for line in shown.splitlines())
    assert (pairs["part of"], pairs["at the limit"], pairs["warns at"]) == ("research", "throttle", "0.5, 0.75")
    assert (pairs["tokens per hour"], pairs["USD per day"], pairs["USD in all"]) == ("1000", "0.25", "-")
    found = await as_json(node, "budget", "show", budget_id)
    assert found["limits"] == {
        "tokens_per_hour": 1000,
        "tokens_per_day": None,
        "cost_per_day": 0.25,
        "cost_total": None,
    }
    assert found in await as_json(node, "budget", "list", "--parent", "research")
    listed = (await l02(node, "budget", "list"))[1]
    assert [line.split() for line in listed.splitlines() if line.startswith(budget_id)] == [
        [budget_id, "research", "1000", "-", "0.25", "-", "throttle"]
    ]
    code, _, errors = await l02(node, "budget", "configure", budget_id, "--warn-at", "0.9,0.8")
    assert code == 1
    assert "E2110" in errors and "must ascend" in errors
    code, _, errors = await l02(node, "budget", "configure", budget_id, "--warn-at", "often")
    assert code == 2
    assert (await l02(node, "budget", "configure", budget_id, "--cost-per-day", "nan"))[0] == 1
    assert (await as_json(node, "budget", "configure", budget_id, "--warn-at", "none"))["ok"]
    assert (await as_json(node, "budget", "show", budget_id))["warn_at"] == []
    assert (await l02(node, "budget", "show", "nobody"))[0] == 1
