"""No cancellation is lost, whatever the awaited thing makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from l02.bus.background.cancelling import cancellable, end

Answer = Callable[[], str]


def well() -> str:
    return "answer"


def badly() -> str:
    raise OSError("it is away")


async def forgetful(answer: Answer) -> str:
    with suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    return answer()


async def cancelled_while(request: Awaitable[str]) -> asyncio.Task[str]:
    """A task that awaits `request` and is cancelled as soon as it does."""
    task = asyncio.ensure_future(request)
    assert isinstance(task, asyncio.Task)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    return task


@pytest.mark.parametrize("answer", [well, badly])
async def test_one_that_is_lost_is_raised_afterwards(answer: Answer) -> None:
    assert not (await cancelled_while(forgetful(answer))).cancelled()
    assert (await cancelled_while(cancellable(forgetful(answer)))).cancelled()


@pytest.mark.parametrize("answer", [well, badly])
async def test_one_that_comes_together_with_the_answer_is_not_lost(answer: Answer) -> None:
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(cancellable(asyncio.wait_for(future, 10)))
    await asyncio.sleep(0)
    if answer is well:
        future.set_result("answer")
    else:
        future.set_exception(OSError("it is away"))
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_without_one_it_gives_what_it_awaits() -> None:
    async def request(answer: Answer) -> str:
        await asyncio.sleep(0)
        return answer()

    assert await cancellable(request(well)) == "answer"
    with pytest.raises(OSError, match="it is away"):
        await cancellable(request(badly))


async def test_one_that_came_before_is_not_raised_again() -> None:
    """So that a task which is ending can still ask for something."""
    answers = []

    async def ending() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            answers.append(await cancellable(asyncio.sleep(0, "answer")))

    task = asyncio.create_task(ending())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() and answers == ["answer"]


async def test_a_task_is_cancelled_until_it_has_ended() -> None:
    async def deaf() -> str:
        await forgetful(well)
        await forgetful(well)
        await asyncio.Event().wait()
        return "never"

    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    await end(task)
    assert task.cancelled()
