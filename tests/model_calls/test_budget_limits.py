"""A budget is in the way of a call: what its action says happens, and agents go on when it allows more, or nothing."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from l02.client.client import Client
from l02.domain.agent.life.suspension import AgentSuspended
from l02.domain.agent.state import Status
from l02.domain.agent.work.blocking import BudgetGranted, BudgetWaiting
from l02.domain.errors import ErrorCode, Failure
from l02.domain.spending.limits import LimitName
from tests.model_calls.conftest import Spawn, ask, asker
from tests.model_calls.test_limits import events, until, waiting
from tests.models.endpoint import ScriptedEndpoint
from tests.models.shapes import Say

HOUR = LimitName.TOKENS_PER_HOUR
STEPS = [ask("one"), ask("two")]
"""Each may need some 1,300 tokens, and uses that; the budget has 2,400, so that the second does not fit."""


@pytest.fixture(autouse=True)
def answers(endpoint: ScriptedEndpoint) -> None:
    endpoint.script = lambda asked: Say("42", usage=(800, 500))


async def budget(client: Client, action: str, tokens: int = 2400, **more: Any) -> str:
    name = f"b{uuid.uuid4().hex[:8]}"
    await client.configure_budget(name, tokens_per_hour=tokens, action=action, **more)
    return name


async def test_suspended_agents_go_on_when_it_is_raised(client: Client, spawn: Spawn) -> None:
    """A call that can never fit waits for nothing, though another one was refused just now that could."""
    name = await budget(client, "suspend")
    first, second = await spawn(budget=name), await spawn(budget=name)
    work = asyncio.create_task(client.execute(first, STEPS))
    view = await until(client, first, lambda seen: seen.state is Status.SUSPENDED and seen.waiting)
    [wait] = view.waiting
    assert (wait.kind, wait.budget, wait.limit, view.suspend_reason) == ("budget", name, HOUR, "budget")
    more = asyncio.create_task(client.execute(second, [ask("three", max_tokens=3000)]))
    [refused] = (await more).output
    assert refused["code"] == "E2072"
    assert "can never hold that" in refused["message"]
    await client.raise_budget(name, tokens_per_hour=5000)
    assert [answer["text"] for answer in (await work).output] == ["42", "42"]
    [granted] = await events(client, first, BudgetGranted)
    assert (granted.budget, granted.level, granted.granted, granted.by) == (name, "budget", 5000, "tests")


async def test_what_does_not_help_wakes_nobody(client: Client, spawn: Spawn) -> None:
    name = await budget(client, "suspend")
    agent_id = await spawn(budget=name)
    work = asyncio.create_task(client.execute(agent_id, STEPS))
    await until(client, agent_id, lambda seen: seen.state is Status.SUSPENDED)
    await client.raise_budget(name, tokens_per_hour=1)
    await client.reset_budget(name)
    assert [answer["text"] for answer in (await work).output] == ["42", "42"]
    assert len(await events(client, agent_id, BudgetGranted)) == 1, "the reset has helped, one token had not"


async def test_a_person_is_asked_and_grants_what_is_lacking(client: Client, spawn: Spawn) -> None:
    parent = await budget(client, "ask")
    name = await budget(client, "suspend", 100_000, parent=parent)
    agent_id = await spawn(budget=name)
    work = asyncio.create_task(client.execute(agent_id, STEPS))
    await until(client, agent_id, lambda seen: seen.state is Status.SUSPENDED and seen.waiting)
    [question] = [one for one in await client.questions() if one.agent_id == agent_id]
    assert (question.kind, question.what) == ("budget", f"budget/{parent} tokens_per_hour"), "the level is named"
    await client.grant(question.id)
    assert [answer["text"] for answer in (await work).output] == ["42", "42"]
    [granted] = await events(client, agent_id, BudgetGranted)
    assert (granted.budget, granted.by) == (parent, "tests")
    assert granted.granted == question.needed["tokens"] - 1100


@pytest.mark.parametrize("of_all", [True, False])
async def test_a_person_says_no(client: Client, spawn: Spawn, of_all: bool) -> None:
    """To all that ask for more of a budget, or to one call."""
    name = await budget(client, "ask")
    agent_id = await spawn(budget=name)
    work = asyncio.create_task(client.execute(agent_id, STEPS))
    view = await until(client, agent_id, lambda seen: seen.state is Status.SUSPENDED and seen.waiting)
    if of_all:
        await client.deny_budget(name)
    else:
        await client.deny(view.waiting[0].question or "")
    assert (await work).output[1]["code"] == "E2072"


async def test_a_throttled_call_waits_for_it(client: Client, spawn: Spawn) -> None:
    name = await budget(client, "throttle")
    agent_id = await spawn(budget=name)
    work = asyncio.create_task(client.execute(agent_id, STEPS))
    assert (await waiting(client, agent_id)).state is Status.RUNNING
    await client.configure_budget(name, tokens_per_hour=50_000, action="throttle")
    assert [answer["text"] for answer in (await work).output] == ["42", "42"]
    assert not await events(client, agent_id, AgentSuspended)


async def test_refused_it_is_told(client: Client, spawn: Spawn) -> None:
    name = await budget(client, "refuse")
    agent_id = await spawn(budget=name)
    first, refused = (await client.execute(agent_id, STEPS)).output
    assert (first["text"], refused["code"]) == ("42", "E2072")
    assert f"budget {name!r}" in refused["message"]
    assert not await events(client, agent_id, BudgetWaiting)


async def test_warned_it_has_no_wall(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn(budget=await budget(client, "warn"))
    assert [answer["text"] for answer in (await client.execute(agent_id, STEPS)).output] == ["42", "42"]


async def test_terminated_it_ends_in_order(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn(budget=await budget(client, "terminate"))
    work = asyncio.create_task(client.execute(agent_id, STEPS))
    view = await until(client, agent_id, lambda seen: seen.state is Status.TERMINATED)
    assert view.terminate_reason == "resource_exceeded"
    await asyncio.wait([work])


BUILT_IN = {"name": "thinker", "model": {"alias": "small", "prompt": "You count."}}


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ({"resource_limits": {"tokens_per_hour": 1000}}, "$.spec.resource_limits.tokens_per_hour"),
        ({"resource_limits": {"cost_per_day": 0.001}}, "$.spec.resource_limits.cost_per_day"),
        ({"budget": "narrow"}, "$.spec.budget"),
        ({"resource_limits": {"tokens_per_hour": 0}}, None),
        ({"resource_limits": {"tokens_per_hour": 5000}}, None),
        ({"model": {"alias": "small", "max_tokens": 20}, "resource_limits": {"tokens_per_hour": 1000}}, None),
    ],
)
async def test_an_agent_of_whose_calls_none_could_ever_fit_is_not_made(
    client: Client, endpoint: ScriptedEndpoint, more: dict[str, Any], path: str | None
) -> None:
    """Its model says up to 1,000 tokens if it is not told otherwise. 0 allows nothing on purpose."""
    await client.configure_budget("narrow", tokens_per_day=900)
    agent_id = f"a{uuid.uuid4().hex[:8]}"
    if path is None:
        await client.spawn(BUILT_IN | more, id=agent_id)
        await client.terminate(agent_id, force=True)
        return
    with pytest.raises(Failure, match="can never hold that: raise it") as refused:
        await client.spawn(BUILT_IN | more, id=agent_id)
    assert (refused.value.code, refused.value.path) == (ErrorCode.COMMAND_INVALID, path)


async def test_a_program_can_ask_for_less(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn(resource_limits={"tokens_per_hour": 500})
    [answer] = (await client.execute(agent_id, [ask("one", max_tokens=5)])).output
    assert answer["text"] == "42"
    with pytest.raises(Failure, match="can never hold that"):
        await client.spawn(asker(resource_limits={"tokens_per_hour": 10}))
