"""A limit is in the way of a call, the agent's own: what its action says happens, and work goes on when it may."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from l02.bus.commands.timers import send_due
from l02.bus.connection.streams import TIMERS_STREAM
from l02.bus.wire.subjects import AggregateId
from l02.client.client import Client
from l02.domain.agent.life.suspension import AgentSuspended
from l02.domain.agent.resources import ResourceExceeded, ResourceWarned
from l02.domain.agent.state import Status
from l02.domain.agent.work.blocking import BudgetDenied, BudgetGranted, BudgetWaiting, QuotaReset, QuotaResetDue
from l02.domain.agent.work.models import ModelRequested
from l02.domain.agent.work.quotas import QuotaUpdated
from l02.domain.errors import Failure
from l02.domain.spending.limits import LimitAction, LimitName
from l02.handlers.resources.settings import ResourceSettings
from l02.node.running import Node
from l02.node.settings import Settings
from l02.projections.folds.agents import AgentView
from tests.model_calls.conftest import Spawn, ask, have_models, history
from tests.models.endpoint import Asked, ScriptedEndpoint
from tests.models.shapes import Say

HOUR = LimitName.TOKENS_PER_HOUR
STEPS = [ask("one"), ask("two")]
"""Each may need some 1,300 tokens, and uses that of the 2,400 that LIMITS allow: the second does not fit."""
LIMITS = {"tokens_per_hour": 2400}


@pytest.fixture(autouse=True)
def answers(endpoint: ScriptedEndpoint) -> None:
    endpoint.script = lambda asked: Say("42", usage=(800, 500))


def limited(action: str, **more: Any) -> dict[str, Any]:
    return {"resource_limits": {**LIMITS, "action": action, **more}}


async def until(client: Client, agent_id: str, fits: Any) -> AgentView:
    """The agent's live view, when it fits."""
    async with asyncio.timeout(30), aclosing(client.watch(agent_id)) as views:
        async for view in views:
            if fits(view):
                return view
    raise AssertionError("it is watched for ever")


async def waiting(client: Client, agent_id: str) -> AgentView:
    return await until(client, agent_id, lambda view: any(wait.kind == "budget" for wait in view.waiting))


async def events(client: Client, agent_id: str, kind: type[Any]) -> list[Any]:
    return [event for event in await history(client, agent_id) if isinstance(event, kind)]


async def test_suspended_it_goes_on_by_itself_when_it_is_raised(
    client: Client, spawn: Spawn, endpoint: ScriptedEndpoint
) -> None:
    """With what is on record: the first question is not asked again. Its other work has waited in the queue."""
    agent_id = await spawn(**limited("suspend"))
    work = asyncio.create_task(client.execute(agent_id, STEPS))
    view = await waiting(client, agent_id)
    [wait] = view.waiting
    assert (wait.kind, wait.name, wait.budget, wait.question) == ("budget", "tokens_per_hour", None, None)
    assert wait.until == view.spent[HOUR].reset_at
    assert (view.spent[HOUR].amount, view.spent[HOUR].used, view.spent[HOUR].left) == (2400, 1300, 1100)
    resting = await until(client, agent_id, lambda seen: seen.state is Status.SUSPENDED and seen.checkpoint_id)
    assert resting.suspend_reason == "budget"
    more = asyncio.create_task(client.execute(agent_id, [ask("three")]))
    await until(client, agent_id, lambda seen: len(seen.open_executions) == 2)
    assert len(endpoint.requests) == 1
    await client.set_quota(agent_id, tokens_per_hour=20_000)
    assert [answer["text"] for answer in (await work).output] == ["42", "42"]
    assert [answer["text"] for answer in (await more).output] == ["42"]
    assert [request.body["messages"][0]["content"] for request in endpoint.requests] == ["one", "two", "three"]
    [exceeded] = await events(client, agent_id, ResourceExceeded)
    assert (exceeded.name, exceeded.limit, exceeded.action_taken, exceeded.code) == (HOUR, 2400, "suspend", "E2072")
    [granted] = await events(client, agent_id, BudgetGranted)
    assert (granted.granted, granted.by, granted.level) == (17_600, "tests", "own")
    assert not (await client.get(agent_id)).waiting


async def test_an_hour_later_it_goes_on_by_itself(client: Client, spawn: Spawn, endpoint: ScriptedEndpoint) -> None:
    """The timer of the reset is on its way: here it comes at once, as it does when it was due while all was down."""
    agent_id = await spawn(**limited("suspend"))
    work = asyncio.create_task(client.execute(agent_id, STEPS))
    await until(client, agent_id, lambda seen: seen.state is Status.SUSPENDED)
    [first] = await events(client, agent_id, ModelRequested)
    await _due(client, agent_id, first.reset_at[HOUR])
    assert [answer["text"] for answer in (await work).output] == ["42", "42"]
    [reset] = await events(client, agent_id, QuotaReset)
    assert (reset.limits, reset.usage) == ({HOUR: 2400}, {HOUR: 1300})
    [granted] = await events(client, agent_id, BudgetGranted)
    assert granted.by is None


async def test_asking_it_waits_for_a_person_who_grants(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn(**limited("ask"))
    work = asyncio.create_task(client.execute(agent_id, STEPS))
    await until(client, agent_id, lambda seen: seen.state is Status.SUSPENDED and seen.waiting)
    [question] = [one for one in await client.questions() if one.agent_id == agent_id]
    assert (question.kind, question.what) == ("budget", "tokens_per_hour")
    assert question.id == f"{agent_id}/{question.execution_id}/2"
    assert question.needed["tokens"] > 1100
    await client.grant(question.id)
    assert [answer["text"] for answer in (await work).output] == ["42", "42"]
    [granted] = await events(client, agent_id, BudgetGranted)
    assert (granted.granted, granted.by) == (question.needed["tokens"] - 1100, "tests")
    with pytest.raises(Failure, match="E2112"):
        await client.grant(question.id)


async def test_a_person_denies_and_the_agent_is_told(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn(**limited("ask"))
    work = asyncio.create_task(client.execute(agent_id, STEPS))
    view = await until(client, agent_id, lambda seen: seen.state is Status.SUSPENDED and seen.waiting)
    await client.deny(view.waiting[0].question or "", "not on Fridays")
    _, refused = (await work).output
    assert refused["code"] == "E2072"
    assert "tests has denied more: not on Fridays" in refused["message"]
    [denied] = await events(client, agent_id, BudgetDenied)
    assert (denied.by, denied.reason) == ("tests", "not on Fridays")


async def test_throttled_the_call_waits_and_the_agent_stays(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn(**limited("throttle"))
    work = asyncio.create_task(client.execute(agent_id, STEPS))
    assert (await waiting(client, agent_id)).state is Status.RUNNING
    await client.set_quota(agent_id, tokens_per_hour=None)
    assert [answer["text"] for answer in (await work).output] == ["42", "42"]
    assert not await events(client, agent_id, AgentSuspended)


async def test_refused_it_is_told_and_may_catch_that(client: Client, spawn: Spawn, endpoint: ScriptedEndpoint) -> None:
    agent_id = await spawn(**limited("refuse"))
    first, refused = (await client.execute(agent_id, STEPS)).output
    assert first["text"] == "42"
    assert refused["code"] == "E2072"
    assert "the agent's own tokens_per_hour of 2,400 tokens has 1,100 tokens left until" in refused["message"]
    assert len(endpoint.requests) == 1
    assert not await events(client, agent_id, BudgetWaiting)


async def test_warned_it_has_no_wall(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn(**limited("warn"))
    steps = [*STEPS, ask("three"), ask("four")]
    assert [answer["text"] for answer in (await client.execute(agent_id, steps)).output] == ["42"] * 4
    [exceeded] = await events(client, agent_id, ResourceExceeded)
    assert exceeded.action_taken == "warn"
    [warned] = await events(client, agent_id, ResourceWarned)
    assert (warned.name, warned.current_usage, warned.limit, warned.threshold_percent) == (HOUR, 2600, 2400, 90)


async def test_terminated_it_ends_in_order(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn(**limited("terminate"))
    work = asyncio.create_task(client.execute(agent_id, STEPS))
    view = await until(client, agent_id, lambda seen: seen.state is Status.TERMINATED)
    assert view.terminate_reason == "resource_exceeded"
    with suppress(Failure):  # of an agent that has not ended its work in time
        assert (await work).output[1]["code"] == "E2072"


@pytest.mark.parametrize("action", ["throttle", "suspend", "ask", "terminate"])
async def test_what_can_never_fit_is_told_whatever_the_action_is(client: Client, spawn: Spawn, action: str) -> None:
    agent_id = await spawn(**limited(action, tokens_per_hour=500))
    [refused] = (await client.execute(agent_id, [ask("one")])).output
    assert refused["code"] == "E2072"
    assert "can never hold that; ask for less" in refused["message"]


async def test_nothing_is_allowed_by_a_limit_of_nothing(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn(**limited("suspend", tokens_per_hour=0))
    [refused] = (await client.execute(agent_id, [ask("one")])).output
    assert refused["code"] == "E2072"


async def test_calls_side_by_side_wait_for_one_another_before_the_limit_is_met(
    client: Client, spawn: Spawn, endpoint: ScriptedEndpoint
) -> None:
    """Four may need 5,200 of 3,000, and use 40: each has its turn, and nobody is suspended."""
    endpoint.script = lambda asked: Say("42", usage=(5, 5))
    agent_id = await spawn(**limited("suspend", tokens_per_hour=3000))
    steps = [["gather", *(ask(f"q{number}")[1] for number in range(4))]]
    [answers] = (await client.execute(agent_id, steps)).output
    assert [answer["text"] for answer in answers] == ["42"] * 4
    assert not await events(client, agent_id, BudgetWaiting)


async def test_one_of_several_calls_is_in_the_way_and_the_others_come_to_their_end(
    client: Client, spawn: Spawn, endpoint: ScriptedEndpoint
) -> None:
    """What is under way when the agent is suspended is asked once, and its answer is on record."""
    told = asyncio.Event()

    async def script(asked: Asked) -> Say:
        if asked.body["messages"][0]["content"] == "q1":
            await told.wait()
        return Say("42", usage=(800, 500))

    endpoint.script = script
    agent_id = await spawn(**limited("suspend", tokens_per_hour=4000))
    steps = [["gather", ask("q0")[1], ask("q1")[1], ask("q2", max_tokens=3000)[1]]]
    work = asyncio.create_task(client.execute(agent_id, steps))
    await until(client, agent_id, lambda seen: seen.state is Status.SUSPENDED)
    told.set()
    await until(client, agent_id, lambda seen: seen.spent[HOUR].used == 2600)
    await client.set_quota(agent_id, tokens_per_hour=50_000)
    [found] = (await work).output
    assert [answer["text"] for answer in found] == ["42"] * 3
    asked = [request.body["messages"][0]["content"] for request in endpoint.requests]
    assert sorted(asked) == ["q0", "q1", "q2"]


async def test_lowered_it_acts_at_once(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn(resource_limits={"action": "refuse"})
    [first] = (await client.execute(agent_id, [ask("one")])).output
    assert first["text"] == "42"
    outcome = await client.set_quota(agent_id, tokens_per_hour=1000)
    assert (outcome.result or {})["limits"]["tokens_per_hour"] == 1000
    [refused] = (await client.execute(agent_id, [ask("two")])).output
    assert refused["code"] == "E2072"
    [warned] = await events(client, agent_id, ResourceWarned)
    assert (warned.threshold_percent, warned.limit) == (90, 1000)
    [updated] = await events(client, agent_id, QuotaUpdated)
    assert updated.by == "tests"


async def test_what_was_used_is_in_the_table(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn(resource_limits={"action": "refuse"})
    await client.execute(agent_id, STEPS)
    [used] = await client.usage("model", id=agent_id)
    assert (used.name, used.input_tokens, used.output_tokens, used.calls) == ("any", 1600, 1000, 2)
    assert used.cost_usd == 0.0036
    [mine] = await client.usage("agent", id=agent_id)
    assert (mine.name, mine.cost_usd) == (agent_id, used.cost_usd)
    [budget] = await client.usage("budget", id=agent_id)
    assert (budget.name, budget.calls) == ("", 2)


async def _due(client: Client, agent_id: str, at: float) -> None:
    """What the timer sends."""
    body = msgspec.json.encode({"at": at, "wait": "accepted"})
    await send_due(client._bus, AggregateId("agent", agent_id), QuotaResetDue.verb, body, uuid.uuid4().hex)


async def test_a_timer_stands_for_each_window(node: Node, client: Client, spawn: Spawn) -> None:
    """At the server, before the call is on record: so it fires though every process be down."""
    agent_id = await spawn(resource_limits={"action": "refuse"})
    await client.execute(agent_id, STEPS)
    first, second = await events(client, agent_id, ModelRequested)
    assert second.reset_at is UNSET, "the windows have begun"
    bus = node.parts.bus
    found = await bus.api(f"STREAM.INFO.{TIMERS_STREAM}", {"subjects_filter": f"l02.timer.agent.{agent_id}.>"})
    verb = QuotaResetDue.verb
    assert {subject for subject in found["state"]["subjects"] if verb in subject} == {
        f"l02.timer.agent.{agent_id}.{verb}.{round(at * 1000)}" for at in set(first.reset_at.values())
    }
    assert len(set(first.reset_at.values())) == 2, "the hour's and the day's"


async def test_what_the_settings_say_is_for_agents_to_come(
    node: Node, client: Client, spawn: Spawn, endpoint: ScriptedEndpoint
) -> None:
    """They are read again while the node runs; what an agent has stands in its first event."""
    before = await spawn()
    said = ResourceSettings(tokens_per_hour=7000, token_budget_action=LimitAction.REFUSE, warn_at=(0.25,))
    settings = Settings(data_dir=Path("unused"), resources=said)
    try:
        await node.parts.reconfigure(settings)
        after = await spawn(models=[])
    finally:
        await node.parts.reconfigure(replace(settings, resources=ResourceSettings()))
        await have_models(node, endpoint.url)
    assert (await client.get(before)).spec.resource_limits.tokens_per_hour == 100_000
    limits = (await client.get(after)).spec.resource_limits
    assert (limits.tokens_per_hour, limits.action, limits.warn_at) == (7000, LimitAction.REFUSE, (0.25,))
