"""Pauses grow, up to a bound, and begin anew when something has worked; what passes is outlasted, however long."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from l02.bus.background.backoff import Backoff, outlasting


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


class _Away(Exception):
    pass


def _is_away(error: Exception) -> bool:
    return isinstance(error, _Away)


async def test_what_passes_is_outlasted_however_often_and_what_does_not_is_raised() -> None:
    errors: list[Exception] = [_Away() for _ in range(20)]

    async def act() -> str:
        if errors:
            raise errors.pop()
        return "done"

    with capture_logs() as lines:
        assert await outlasting(act, _is_away, "the server", longest=0.0) == "done"
    assert [line["event"] for line in lines] == ["waiting for the server"] * 20
    errors[:] = [ValueError("no"), _Away()]
    with pytest.raises(ValueError, match="no"):
        await outlasting(act, _is_away, "the server", longest=0.0)


async def test_a_cancellation_ends_the_wait_at_once_also_one_that_is_lost_meanwhile() -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def away() -> None:
        begun.set()
        raise _Away

    async def loses_it() -> None:
        begun.set()
        with suppress(asyncio.CancelledError):
            await may_end.wait()

    for act in (away, loses_it):
        begun.clear()
        task = asyncio.create_task(outlasting(act, _is_away, "the server", longest=3600.0))
        await begun.wait()
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled(), act
