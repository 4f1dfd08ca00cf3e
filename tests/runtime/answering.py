"""Other agents are answered while one attacks their node."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from l02.client.client import Client

ANSWER_SECONDS = 1.0
_TRIES = 3
_GIVEN_UP_SECONDS = 60.0


async def require_answers(client: Client, agent_id: str, attack: Callable[[], Awaitable[None]]) -> None:
    """Attack, and ask another agent, which gives its input back, again and again meanwhile: no answer takes too long.

    That is measured by the clock, so that it counts whatever an answer waits for; but not the time in which the machine
    had no core for the node's loop. One that is busy makes the other processes of an answer slow too, but hardly each
    of a few times; what the attack does, it does each time.
    """
    took = []
    for _ in range(_TRIES):
        took.append(await _longest_answer(client, agent_id, attack))
        if took[-1] <= ANSWER_SECONDS:
            return
    raise AssertionError(f"another agent was answered after {min(took):.1f} s only")


async def _longest_answer(client: Client, agent_id: str, attack: Callable[[], Awaitable[None]]) -> float:
    attacking = asyncio.ensure_future(attack())
    longest, number = 0.0, 0
    try:
        while not attacking.done():
            began, number = time.monotonic() - without_core(), number + 1
            async with asyncio.timeout(_GIVEN_UP_SECONDS):
                assert (await client.execute(agent_id, number)).output == number
            longest = max(longest, time.monotonic() - without_core() - began)
    finally:
        attacking.cancel()
        await asyncio.wait({attacking})
    attacking.result()
    return longest


def without_core() -> float:
    """Seconds in all that this thread was ready to run and had to wait; 0 where the system does not tell."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except FileNotFoundError:
        return 0.0
