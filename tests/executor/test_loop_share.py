"""What an agent's messages take beyond its share of the loop is made up for by not being read: one agent at a time."""

from __future__ import annotations

import asyncio

from l02.handlers.executor.loop_share import Account, LoopShare


class _Watched(LoopShare):
    def __init__(self) -> None:
        super().__init__()
        self.rests: list[float] = []

    async def rest(self, seconds: float) -> None:
        self.rests.append(seconds)
        await super().rest(seconds)


async def test_who_takes_little_never_rests() -> None:
    share = _Watched()
    account = Account(share)
    for _ in range(10):
        await account.charge(0.0001)
    assert share.rests == []


async def test_who_takes_much_rests_for_as_long_as_its_work_takes() -> None:
    share = _Watched()
    account = Account(share)
    await account.charge(0.0005)
    await account.charge(0.01)
    (rested,) = share.rests
    assert 0.06 <= rested <= 0.063
    await account.charge(0.0001)
    assert len(share.rests) == 1, "it has paid for what was before"


async def test_those_that_rest_take_turns() -> None:
    """So that all of them together leave others half of the loop."""
    share = LoopShare()
    clock = asyncio.get_running_loop().time
    began, ended = clock(), []

    async def rest(number: int) -> None:
        await share.rest(0.02)
        ended.append((number, clock() - began))

    await asyncio.gather(*(rest(number) for number in range(3)))
    assert [number for number, _ in ended] == [0, 1, 2]
    assert all(at >= 0.02 * (number + 1) - 0.002 for number, at in ended)
