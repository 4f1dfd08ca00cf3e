"""The fourth agent of the demonstration has no code: a model, held at its limit until a person grants it more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from msgspec.structs import replace

from l02.cli.demo.report import EXAMPLES, ROOT, Report, Wrong
from l02.client.client import Client
from l02.client.specification_file import load_specification
from l02.domain.agent.work.blocking import BudgetWaiting
from l02.domain.agent.work.executions import ExecutionCompleted, ExecutionFailed
from l02.domain.specification import AgentSpecification
from l02.domain.spending.limits import LimitAction
from l02.projections.folds.waiting import QuestionView

NAME = "assistant"
_LIMIT_TOKENS = 9_000
"""Enough for its first rounds, not for all of them."""
_MORE_TOKENS = 100_000


def specification() -> AgentSpecification:
    """That of the example, but that it asks when an hour's tokens are used up."""
    found = load_specification(EXAMPLES / f"{NAME}.yaml")
    limits = replace(found.resource_limits, tokens_per_hour=_LIMIT_TOKENS, action=LimitAction.ASK)
    return replace(found, resource_limits=limits)


async def ask_assistant(client: Client, report: Report, say: Callable[[str], None]) -> None:
    """Give it work, and more tokens when it asks for them."""
    work = asyncio.create_task(client.execute(NAME, f"In {ROOT}: who wrote the last commits?"))
    async for recorded in client.events(NAME, follow=True):
        match recorded.event:
            case BudgetWaiting():
                break
            case ExecutionCompleted() | ExecutionFailed():
                await work
                raise Wrong(f"{NAME} ended before its limit of {_LIMIT_TOKENS:,} tokens")
    asked = await _question(client)
    say(f"{NAME} has used its tokens for this hour: it is suspended, and asks a person (l02 approve list)")
    await client.grant(asked.id, _MORE_TOKENS)
    say(f"{_MORE_TOKENS:,} more are granted (l02 approve grant), and {NAME} goes on\n")
    report.answer = str((await work).output)
    report.thoughts = [recorded async for recorded in client.events(NAME)]


async def _question(client: Client) -> QuestionView:
    """What it asks, once the read model shows it."""
    while True:
        for question in await client.questions():
            if question.agent_id == NAME:
                return question
        await asyncio.sleep(0.05)
