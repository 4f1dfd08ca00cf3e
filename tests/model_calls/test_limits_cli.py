"""The commands about limits, questions and usage, as a person gives them."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import pytest

from l02.client.client import Client
from l02.domain.agent.state import Status
from l02.node.running import Node
from tests.forked_cli import forked_cli
from tests.model_calls.conftest import Spawn, ask
from tests.model_calls.test_limits import STEPS, limited, until
from tests.models.endpoint import ScriptedEndpoint
from tests.models.shapes import Say


@pytest.fixture(autouse=True)
def answers(endpoint: ScriptedEndpoint) -> None:
    endpoint.script = lambda asked: Say("42", usage=(800, 500))


async def l02(node: Node, *words: str) -> tuple[int, str, str]:
    """Exit code, output and errors."""
    return await forked_cli(*words, environment=os.environ | {"L02_NATS_URL": node.runtime["nats_url"]})


async def as_json(node: Node, *words: str) -> Any:
    code, output, errors = await l02(node, *words, "--json")
    assert code == 0, errors
    return json.loads(output)


async def test_a_question_is_seen_and_granted(node: Node, client: Client, spawn: Spawn) -> None:
    agent_id = await spawn(**limited("ask"))
    work = asyncio.create_task(client.execute(agent_id, STEPS))
    await until(client, agent_id, lambda seen: seen.state is Status.SUSPENDED and seen.waiting)
    _, shown, _ = await l02(node, "show", agent_id)
    assert "2,400 tokens an hour" in shown
    assert "1,300 tokens in the hour, until" in shown
    assert "budget tokens_per_hour, since" in shown
    _, listed, _ = await l02(node, "ps")
    assert "budget tokens_per_hour" in next(line for line in listed.splitlines() if agent_id in line)
    [question] = [one for one in await as_json(node, "approve", "list") if one["agent_id"] == agent_id]
    assert (question["kind"], question["what"]) == ("budget", "tokens_per_hour")
    _, table, _ = await l02(node, "approve", "list")
    assert question["id"] in table
    assert f"(l02 approve grant {question['id']})" in shown
    for amount in ("-5", "0", "nan", "inf"):
        code, _, errors = await l02(node, "approve", "grant", question["id"], "--amount", amount)
        assert (code, "more than nothing" in errors) == (1, True)
    code, said, errors = await l02(node, "approve", "grant", question["id"], "--amount", "5000")
    assert (code, said.strip()) == (0, f"{question['id']} is granted"), errors
    assert [answer["text"] for answer in (await work).output] == ["42", "42"]
    assert (await client.get(agent_id)).resource_limits.tokens_per_hour == 7400
    code, _, errors = await l02(node, "approve", "deny", question["id"])
    assert code == 1
    assert "nobody asks" in errors and "l02 approve list" in errors


async def test_an_id_that_leads_nowhere_is_said_so(node: Node) -> None:
    code, _, errors = await l02(node, "approve", "grant", "no-such-agent/x/1")
    assert (code, "E2111" in errors) == (1, True)
    code, _, errors = await l02(node, "approve", "grant", "a b/x/1")
    assert (code, "E2110" in errors) == (1, True)


async def test_limits_are_changed(node: Node, client: Client, spawn: Spawn) -> None:
    agent_id = await spawn(resource_limits={"action": "refuse"})
    code, said, _ = await l02(node, "set-quota", agent_id, "--tokens-per-hour", "none", "--cost-per-day", "2.5")
    assert (code, said.strip()) == (0, f"{agent_id} has other limits")
    limits = (await client.get(agent_id)).resource_limits
    assert (limits.tokens_per_hour, limits.cost_per_day) == (None, 2.5)
    assert "has these limits" in (await l02(node, "set-quota", agent_id, "--cost-per-day", "2.5"))[1]
    outcome = await as_json(node, "set-quota", agent_id, "--action", "ask", "--execution-seconds", "60")
    assert (outcome["ok"], outcome["result"]["limits"]["action"]) == (True, "ask")
    for words, code, said in (
        (["--tokens-per-hour", "5", "--tokens-per-day", "4"], 1, "E2073"),
        (["--action", "explode"], 1, "E2110"),
        (["--cpu", "lots"], 1, "$.limits.cpu"),
        (["--tokens-per-hour", "many"], 2, "a whole number, none"),
        ([], 2, "say which limit changes"),
    ):
        found, _, errors = await l02(node, "set-quota", agent_id, *words)
        assert (found, said in errors) == (code, True), errors


async def test_usage_is_summed_up(node: Node, client: Client, spawn: Spawn) -> None:
    agent_id = await spawn()
    await client.execute(agent_id, [ask("one")])
    for by, name in (("agent", agent_id), ("model", "any"), ("budget", ""), ("fleet", "")):
        [row] = await as_json(node, "usage", "--by", by, "--id", agent_id, "--since", "1h")
        assert (row["name"], row["input_tokens"], row["output_tokens"], row["cost_usd"]) == (name, 800, 500, 0.0018)
    _, table, _ = await l02(node, "usage", "--id", agent_id)
    assert [word for word in table.split() if word in (agent_id, "800", "500", "0.001800")] == [
        agent_id,
        "800",
        "500",
        "0.001800",
    ]
    code, _, errors = await l02(node, "usage", "--since", "12")
    assert (code, "a duration" in errors) == (2, True)
    assert await as_json(node, "usage", "--id", agent_id, "--since", "2100-01-01T00:00:00Z") == []
