"""A loop whose timers are early, as every loop's are by a little: nothing is over before its moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from l02.bus.background.moments import before, reached

SECONDS = 0.05


class EarlyLoop(asyncio.SelectorEventLoop):
    """Each timer fires after half of its time."""

    def call_at(self, when: float, *args: Any, **more: Any) -> asyncio.TimerHandle:  # type: ignore[override]
        return super().call_at((self.time() + when) / 2, *args, **more)


def run(act: Callable[[float], Any]) -> tuple[float, Any]:
    """How long after the moment it ended, and with what."""

    async def acted() -> tuple[float, Any]:
        moment = time.time() + SECONDS
        result = await act(moment)
        return time.time() - moment, result

    with asyncio.Runner(loop_factory=EarlyLoop) as runner:
        return runner.run(acted())


def test_a_moment_is_reached_and_not_earlier() -> None:
    late, _ = run(reached)
    assert late >= 0


def test_a_limit_ends_at_its_moment_and_not_earlier() -> None:
    async def act(moment: float) -> bool:
        with pytest.raises(TimeoutError):
            async with before(moment) as limit:
                await asyncio.Event().wait()
        return limit.expired()

    late, expired = run(act)
    assert late >= 0 and expired


@pytest.mark.parametrize("moment", [None, time.time() + 3600], ids=["no limit", "in an hour"])
def test_what_ends_before_its_limit_is_left_alone(moment: float | None) -> None:
    async def act(_: float) -> str:
        async with before(moment):
            await asyncio.sleep(0)
            return "ended"

    assert run(act)[1] == "ended"


def test_a_moment_that_has_passed_ends_at_once() -> None:
    async def act(moment: float) -> None:
        await reached(moment - 3600)
        with pytest.raises(TimeoutError):
            async with before(moment - 3600):
                await asyncio.Event().wait()

    run(act)
