"""A budget at a node, from the wire, by request, by our client and on the command line: it is what was last said."""

from __future__ import annotations

import asyncio
import re
import time
import uuid

import msgspec
import pytest

from l02.bus.commands.outcomes import ErrorBody
from l02.client.client import Client
from l02.domain.budget.lending import BudgetReserved, Settle
from l02.domain.budget.state import BudgetLimits, BudgetState
from l02.domain.errors import Failure
from l02.domain.inference import Spending
from l02.domain.kernel.message import Command, Context
from l02.domain.spending.amounts import Amount
from l02.domain.spending.exhausted import Exhausted
from l02.domain.spending.limits import LimitAction, LimitName
from l02.node.running import Node
from l02.projections.folds.budgets import BUDGET_FOLD
from l02.projections.tables.database import connect
from l02.projections.views.bucket import ViewBucket
from l02.projections.views.projector import VIEWS
from tests.bus.toy import until
from tests.runtime.conftest import Raw, fetch
from tests.runtime.test_checkpoint_cli import as_json, l02

HOURLY = LimitName.TOKENS_PER_HOUR
SEVEN = Spending(tokens=7)
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


async def test_raised_denied_and_reset_over_nats(raw: Raw, client: Client, node: Node, budget_id: str) -> None:
    """Each of them: happened, ignored, wrong version."""
    await client.configure_budget(budget_id, tokens_per_hour=100, action=LimitAction.ASK)
    drawn = await node.parts.budgets.reserve((budget_id,), Spending(tokens=90))
    node.parts.budgets.settle(drawn, Spending(tokens=90), Spending(tokens=90))
    await until(lambda: _has(client, budget_id, "used", 90))
    for verb, body, event in (
        ("raise", {"amount": {"tokens_per_hour": 50}, "for": "always"}, "budget.raised"),
        ("deny", {}, "budget.denied"),
        ("reset", {"limits": ["tokens_per_hour"]}, "budget.reset"),
    ):
        subject = f"l02.cmd.budget.{budget_id}.{verb}"
        late = await raw.publish(subject, msgspec.json.encode({**body, "expected_version": 1}))
        assert isinstance(late.error, ErrorBody) and late.error.code == "E2113"
        done = await raw.publish(subject, msgspec.json.encode(body))
        assert (done.ok, done.events) == (True, [event])
        again = await raw.publish(subject, msgspec.json.encode({**body, "amount": {}} if verb == "raise" else body))
        assert (again.ok, again.events) == (True, [])
    found = await client.budget(budget_id)
    assert found.limits.tokens_per_hour == 150 and not found.denied
    assert (found.spent[HOURLY].amount, found.spent[HOURLY].left, found.spent[HOURLY].used) == (150, 150, 0)
    read = await raw.request("events.read", {"aggregate": "budget", "id": budget_id, "type": "budget.raised"})
    assert read["result"]["events"][0]["data"]["by"] == read["result"]["events"][0]["actor"]
    refused = await raw.request("budget.raise", {"id": budget_id, "amount": {"cost_total": 1}})
    assert (refused["error"]["code"], refused["error"]["path"]) == ("E2110", "$.amount.cost_total")
    assert (await raw.request("budget.reset", {"id": "nobody"}))["error"]["code"] == "E2111"


async def test_what_is_lent_and_spent_is_seen_within_seconds(client: Client, node: Node, budget_id: str) -> None:
    await client.configure_budget(f"{budget_id}-org", cost_total=1)
    await client.configure_budget(budget_id, tokens_per_hour=1000, parent=f"{budget_id}-org")
    needed = Spending(tokens=100, cost=250_000)
    drawn = await node.parts.budgets.reserve((budget_id,), needed)
    assert [item.budget for item in drawn] == [budget_id, f"{budget_id}-org"]
    lent = await client.budget(budget_id)
    hourly = lent.spent[HOURLY]
    assert (hourly.used, hourly.reserved, hourly.left) == (0, 125, 875)  # an eighth of what is left
    assert hourly.reset_at is not None and (hourly.reset_at - lent.updated_at).total_seconds() <= 3600
    assert [item.holder for item in lent.slices.values()] == [node.runtime["node_id"]]
    node.parts.budgets.settle(drawn, needed, Spending(tokens=40, cost=1))
    await until(lambda: _has(client, budget_id, "used", 40), seconds=10)
    await until(lambda: _has(client, budget_id, "reserved", 0), seconds=10)
    above = (await client.budget(f"{budget_id}-org")).spent[LimitName.COST_TOTAL]
    assert (above.used, above.left) == (0.000001, 0.999999)
    _, page = await fetch(node, "/metrics")
    assert f'agent_runtime_token_budget_remaining{{budget="{budget_id}",limit="tokens_per_hour"}} 960.0' in page
    with pytest.raises(
        Exhausted, match=f"budget '{budget_id}', its tokens_per_hour of 1,000 tokens has 960 tokens left"
    ):
        await node.parts.budgets.reserve((budget_id,), Spending(tokens=961))
    with pytest.raises(Exhausted, match="can never hold that") as never:
        await node.parts.budgets.reserve((budget_id,), Spending(tokens=1, cost=1_000_001))
    assert never.value.budget == f"{budget_id}-org"


async def test_who_waits_goes_on_when_it_is_raised(client: Client, node: Node, budget_id: str) -> None:
    budgets = node.parts.budgets
    await client.configure_budget(budget_id, tokens_per_hour=10)

    async def wait() -> str:
        while True:
            try:
                return (await budgets.reserve((budget_id,), Spending(tokens=20)))[0].budget
            except Exhausted as refused:
                await budgets.room(refused)

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await client.raise_budget(budget_id, tokens_per_hour=15)
    assert await asyncio.wait_for(waiting, 10) == budget_id


async def test_nothing_is_had_of_what_is_not_there_or_a_part_of_itself(
    client: Client, node: Node, budget_id: str
) -> None:
    await client.configure_budget(budget_id, cost_total=1, parent=f"{budget_id}-1")
    with pytest.raises(Failure, match=f"E2072.*'{budget_id}-1' is not configured"):
        await node.parts.budgets.reserve((budget_id,), Spending(tokens=1))
    with pytest.raises(Failure, match=f"E2110.*{budget_id}-1 → {budget_id} → {budget_id}-1") as refused:
        await client.configure_budget(f"{budget_id}-1", parent=budget_id)
    assert refused.value.path == "$.parent"
    for number in range(1, 16):
        await client.configure_budget(f"{budget_id}-{number}", parent=f"{budget_id}-{number + 1}")
    with pytest.raises(Failure, match="E2110.*at most 16 budgets"):
        await client.configure_budget(f"{budget_id}-0", parent=budget_id)
    with pytest.raises(Failure, match=f"E2110.*there is no budget '{budget_id}-x'") as unknown:
        await client.spawn({"name": "a", "entrypoint": "/a.py", "budget": f"{budget_id}-x"}, id=f"a{budget_id}")
    assert unknown.value.path == "$.spec.budget"


async def test_a_limit_is_reset_by_a_timer(node: Node, client: Client, budget_id: str) -> None:
    """As if its window had begun an hour ago: the event that begins it sets the timer."""
    await client.configure_budget(budget_id, tokens_per_hour=10)
    budgets = node.parts.repositories["budget"]
    at = float(int(time.time()) - 3595)
    lent = BudgetReserved(
        slice="old-1", holder="gone", amount=Amount.of(SEVEN), until=at + 30, reserved=Amount.of(SEVEN), at=at
    )
    await budgets.record(budget_id, _Lent(event=lent))
    await budgets.record(budget_id, Settle(slice="old-1", used=SEVEN, closed=True))
    await until(lambda: _has(client, budget_id, "used", 0), seconds=15)
    events = (await client.budget(budget_id)).version
    assert events >= 4


class _Lent(Command, frozen=True, kw_only=True):
    """What was lent at another time."""

    event: BudgetReserved

    def decide(self, state: BudgetState, context: Context, /) -> list[BudgetReserved]:
        return [self.event]


async def _has(client: Client, budget_id: str, name: str, amount: int) -> bool:
    found = (await client.budget(budget_id)).spent.get(HOURLY)
    return found is not None and getattr(found, name) == amount


async def test_more_on_the_command_line(node: Node, budget_id: str) -> None:
    await l02(node, "budget", "configure", budget_id, "--tokens-per-hour", "1000", "--action", "ask")
    drawn = await node.parts.budgets.reserve((budget_id,), Spending(tokens=800))
    node.parts.budgets.settle(drawn, Spending(tokens=800), Spending(tokens=800))
    await node.parts.budgets.give_back()
    shown = (await l02(node, "budget", "show", budget_id))[1]
    assert "1000, 200 left, 800 used, 0 reserved, reset at 20" in shown
    assert "800/1000" in (await l02(node, "budget", "list"))[1]
    raised = ("budget", "raise", budget_id, "--tokens-per-hour", "500")
    assert (await l02(node, *raised))[1] == f"budget {budget_id} is raised\n"
    assert "1500, 700 left" in (await l02(node, "budget", "show", budget_id))[1]
    assert (await l02(node, "budget", "deny", budget_id))[1] == f"no more of budget {budget_id}\n"
    assert "ask (denied)" in (await l02(node, "budget", "show", budget_id))[1]
    reset = ("budget", "reset", budget_id, "--limit", "tokens_per_hour")
    assert (await l02(node, *reset))[1] == f"budget {budget_id} begins anew\n"
    assert (await l02(node, *reset))[1] == f"budget {budget_id} is as it was\n"
    assert (await as_json(node, "budget", "show", budget_id))["spent"]["tokens_per_hour"]["left"] == 1000
    assert (await l02(node, "budget", "raise", budget_id, "--cost-total", "1"))[0] == 1
