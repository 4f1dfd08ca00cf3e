"""Who is let through, and when: agents in turn, never more than there may be."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from l02.domain.errors import ErrorCode
from l02.handlers.models.endpoints.faults import Fault
from l02.handlers.models.endpoints.limiter import Limiter
from l02.handlers.models.settings import Defaults
from tests.models.conftest import Bridge
from tests.models.endpoint import Answer, ScriptedEndpoint
from tests.models.shapes import Say


class Crowd:
    """Calls at a limiter, each held until it is released."""

    def __init__(self, limiter: Limiter) -> None:
        self.limiter = limiter
        self.let_through: list[str] = []
        self._gates: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, *names: str, tokens: int = 0, within: float = 60) -> None:
        """Calls by their names, each of the agent with its first letter."""
        for name in names:
            self._gates[name] = asyncio.Event()
            self._tasks[name] = asyncio.create_task(self._call(name, tokens, within))
        await self.settle()

    async def _call(self, name: str, tokens: int, within: float) -> None:
        deadline = asyncio.get_running_loop().time() + within
        async with self.limiter.turn(name[0], tokens, deadline):
            self.let_through.append(name)
            await self._gates[name].wait()

    async def go(self, name: str) -> None:
        """This one is done."""
        self._gates[name].set()
        await self.settle()

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    def cancel(self, name: str) -> None:
        self._tasks[name].cancel()

    async def end(self) -> None:
        for gate in self._gates.values():
            gate.set()
        for task in self._tasks.values():
            task.cancel()
        await asyncio.wait(self._tasks.values())


@pytest.fixture
async def limiter() -> Limiter:
    return Limiter(max_waiting=100)


async def test_agents_in_turn(limiter: Limiter) -> None:
    limiter.concurrent = 1
    crowd = Crowd(limiter)
    await crowd.come("a1", "a2", "a3", "b1", "a4", "c1", "b2")
    for _ in range(6):
        await crowd.go(crowd.let_through[-1])
    assert crowd.let_through == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]
    await crowd.end()
    assert (limiter.running, limiter.waiting) == (0, 0)


async def test_who_is_cancelled_leaves_his_place(limiter: Limiter) -> None:
    limiter.concurrent = 1
    crowd = Crowd(limiter)
    await crowd.come("a1", "b1", "c1")
    crowd.cancel("b1")
    await crowd.go("a1")
    assert crowd.let_through == ["a1", "c1"]
    crowd.cancel("c1")
    await crowd.come("d1")
    assert crowd.let_through[-1] == "d1"
    await crowd.end()
    assert (limiter.running, limiter.waiting) == (0, 0)


async def test_who_is_cancelled_when_let_through_gives_it_back(limiter: Limiter) -> None:
    limiter.concurrent = 1
    crowd = Crowd(limiter)
    await crowd.come("a1", "b1", "c1")
    crowd._gates["a1"].set()
    await asyncio.sleep(0)
    crowd.cancel("b1")  # in the same moment
    await crowd.settle()
    assert crowd.let_through[-1] in ("b1", "c1")
    await crowd.end()
    assert (limiter.running, limiter.waiting) == (0, 0)


@pytest.mark.parametrize("of", ["requests", "tokens"])
async def test_a_minute_is_any_minute(limiter: Limiter, of: str, monkeypatch: pytest.MonkeyPatch) -> None:
    alarms: list[tuple[float, Callable[[], object]]] = []
    now = 1000.0
    monkeypatch.setattr(limiter, "_now", lambda: now)
    monkeypatch.setattr(limiter, "_wake_in", lambda seconds: alarms.append((now + seconds, limiter.grant)))
    limiter.requests, limiter.tokens = (3, None) if of == "requests" else (None, 30)
    times: list[float] = []

    async def call() -> None:
        async with limiter.turn("a", 10, asyncio.get_running_loop().time() + 60) as turn:
            times.append(turn.at)

    tasks = []
    for _ in range(10):
        tasks.append(asyncio.create_task(call()))
        await asyncio.sleep(0)
        now += 5
    while not all(task.done() for task in tasks):
        for _ in range(3):
            await asyncio.sleep(0)
        if alarms:
            now = max(now, alarms[-1][0])
            alarms.pop()[1]()
    assert len(times) == 10
    for at in times:
        assert sum(at - 60 < each <= at for each in times) <= 3
    assert times[3] - times[0] == 60  # and no longer than that


async def test_what_was_not_used_is_given_to_others(limiter: Limiter) -> None:
    limiter.tokens = 100
    soon = asyncio.get_running_loop().time() + 5
    async with limiter.turn("a", 90, soon) as turn:
        limiter.used(turn, 10)
    async with limiter.turn("a", 90, soon):
        pass
    with pytest.raises(Fault) as fault:
        async with limiter.turn("a", 1, asyncio.get_running_loop().time() + 0.01):
            pass
    assert fault.value.code is ErrorCode.INFERENCE_TIMEOUT
    assert (limiter.running, limiter.waiting) == (0, 0)


async def test_one_that_is_larger_than_a_minute_goes_alone(limiter: Limiter) -> None:
    limiter.tokens = 100
    async with limiter.turn("a", 1000, asyncio.get_running_loop().time() + 5):
        pass


async def test_so_many_wait(limiter: Limiter) -> None:
    limiter.concurrent, limiter.max_waiting = 1, 2
    crowd = Crowd(limiter)
    await crowd.come("a1", "b1", "c1")
    with pytest.raises(Fault) as fault:
        async with limiter.turn("d", 0, asyncio.get_running_loop().time() + 5):
            pass
    assert fault.value.code is ErrorCode.RATE_LIMITED
    await crowd.end()


async def test_aliases_of_the_same_model_share_it(bridge: Bridge, endpoint: ScriptedEndpoint) -> None:
    inside = most = 0

    async def answer(asked: object) -> Answer:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0)
        inside -= 1
        return Say("Hello")

    endpoint.script = answer
    entry = {"endpoint": endpoint.url, "model": "any"}
    await bridge.have(entry | {"max_concurrent": 3}, entry | {"max_concurrent": 2}, {**entry, "model": "unused"})
    ask: Callable[[int], Awaitable[object]] = lambda n: bridge.ask(agent_id=f"a{n}")  # noqa: E731
    outcomes = await asyncio.gather(*map(ask, range(20)))
    assert len(outcomes) == len(endpoint.requests) == 20
    assert most == 2


async def test_too_many_at_a_model(bridge: Bridge, endpoint: ScriptedEndpoint) -> None:
    gate = asyncio.Event()

    async def answer(asked: object) -> Answer:
        await gate.wait()
        return Say("Hello")

    endpoint.script = answer
    await bridge.have({"endpoint": endpoint.url, "model": "any", "max_concurrent": 1}, defaults=Defaults(max_waiting=1))
    first, second = asyncio.create_task(bridge.ask()), asyncio.create_task(bridge.ask())
    await endpoint.asked()
    outcome = await bridge.ask()
    assert outcome.failure is not None
    assert outcome.failure.code is ErrorCode.RATE_LIMITED
    gate.set()
    assert [outcome.failure for outcome in await asyncio.gather(first, second)] == [None, None]
