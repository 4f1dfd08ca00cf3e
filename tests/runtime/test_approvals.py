"""Tools that a person must say yes to: nothing is called before, and a no is told with its reason."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from l02.client.client import Client
from l02.domain.agent.life.suspension import AgentResumed
from l02.domain.agent.work.approvals import ApprovalAnswered, ApprovalRequested
from l02.domain.agent.work.effects import ToolCalled
from l02.domain.errors import Failure
from l02.projections.folds.waiting import QuestionView
from tests.bus.toy import until as shown
from tests.runtime.conftest import history, pid_of, until
from tests.tools.conftest import landlock_only

pytestmark = landlock_only
Spawn = Callable[..., Awaitable[str]]
WORKSHOP = Path(__file__).parents[1] / "tools" / "servers" / "workshop.py"
ASKING = {"shop": {"command": [sys.executable, str(WORKSHOP)], "read": [str(WORKSHOP.parent)], "ask": ["echo"]}}


async def asked(client: Client, agent_id: str, call: int) -> ApprovalRequested:
    found = await until(
        client,
        agent_id,
        lambda recorded: isinstance(recorded.event, ApprovalRequested) and recorded.event.call == call,
    )
    assert isinstance(found.event, ApprovalRequested)
    return found.event


async def question_of(client: Client, agent_id: str, call: int) -> QuestionView:
    """In the inbox, once the read model shows it."""
    await asked(client, agent_id, call)

    async def found() -> QuestionView | None:
        return next((one for one in await client.questions() if (one.agent_id, one.call) == (agent_id, call)), None)

    question: QuestionView = await shown(found)
    return question


async def test_a_call_waits_for_a_yes_and_another_for_a_no(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn(tools=ASKING)
    steps: list[list[Any]] = [
        ["try", "echo", {"txt": "misspelt"}],
        ["tool", "echo", {"text": "a"}],
        ["try", "shop.echo", {"text": "b"}],
        ["tool", "shop.add", {"a": 1, "b": 2}],
    ]
    work = asyncio.create_task(client.execute(agent_id, {"steps": steps}, command_id=f"{agent_id}-x"))
    first = await asked(client, agent_id, 2)
    assert (first.server, first.tool, first.arguments) == ("shop", "echo", {"text": "a"})
    os.kill(await pid_of(client, agent_id), signal.SIGKILL)
    with pytest.raises(Failure, match="E2112.*call 1 of execution .* waits for nobody"):
        await client.approve(agent_id, f"{agent_id}-x", 1)
    assert sum(isinstance(event, ToolCalled) for event in await history(client, agent_id)) == 1
    question = await question_of(client, agent_id, 2)
    assert (question.kind, question.what, question.needed) == ("tool", "shop.echo", {"text": "a"})
    (wait,) = (await client.get(agent_id)).waiting
    assert (wait.kind, wait.name, wait.call) == ("person", "shop.echo", 2)
    await client.grant(question.id)
    await client.deny((await question_of(client, agent_id, 3)).id, "not on a Friday")
    misspelt, a, b, c = (await work).output
    assert misspelt["code"] == "E2001", "what cannot be called, nobody is asked about"
    assert (a, c) == ("a", {"sum": 3})
    assert b == {"code": "E2114", "message": "tests has denied the call of tool 'echo': not on a Friday"}
    events = await history(client, agent_id)
    answers = [event for event in events if isinstance(event, ApprovalAnswered)]
    assert [(event.call, event.granted, event.answered_by) for event in answers] == [
        (2, True, "tests"),
        (3, False, "tests"),
    ]
    assert [event.call for event in events if isinstance(event, ApprovalRequested)] == [2, 3], "each once"
    assert [(event.call, event.ok) for event in events if isinstance(event, ToolCalled)] == [
        (1, False),
        (2, True),
        (3, False),
        (4, True),
    ]


async def test_a_yes_to_an_agent_that_rests_is_heard_when_it_goes_on(client: Client, spawn: Spawn) -> None:
    tools = {"shop": ASKING["shop"] | {"idempotent": ["echo"]}}
    agent_id = await spawn(tools=tools)
    steps = [["tool", "echo", {"text": "a"}]]
    work = asyncio.create_task(client.execute(agent_id, {"steps": steps}, command_id=f"{agent_id}-x"))
    await asked(client, agent_id, 1)
    await client.suspend(agent_id)
    await client.approve(agent_id, f"{agent_id}-x", 1)
    assert (await client.get(agent_id)).state.value == "suspended"
    await client.resume(agent_id)
    assert (await work).output == ["a"]
    kinds = (ApprovalAnswered, AgentResumed, ToolCalled)
    assert [type(event) for event in await history(client, agent_id) if isinstance(event, kinds)] == [*kinds]
