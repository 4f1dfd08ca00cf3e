"""Pauses grow, up to a bound, and begin anew when something has worked."""

from __future__ import annotations

import asyncio

import pytest

from l02.bus.background.backoff import Backoff


async def test_pauses_double_up_to_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    backoff = Backoff(1, 5)
    for _ in range(5):
        await backoff.pause()
    backoff.reset()
    await backoff.pause()
    assert slept == [1, 2, 4, 5, 5, 1]
    assert backoff.seconds == 2
