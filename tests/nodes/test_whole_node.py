"""A node with servers of its own is killed again and again, at work and while it starts: it goes on where it was."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from l02.bus.background.cancelling import end
from l02.bus.commands.outcomes import Outcome
from l02.client.client import Client
from l02.domain.agent.work.executions import ExecutionCompleted, ExecutionFailed, ExecutionStarted
from l02.domain.agent.work.signals import SignalReceived
from l02.verify import verify
from tests.bus.toy import outcomes, until
from tests.embedded.support import alive
from tests.runtime.conftest import worker

AGENTS = [f"a{number}" for number in range(4)]
_ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("L02_")}


@asynccontextmanager
async def starting(data_dir: Path) -> AsyncIterator[Process]:
    """A node's process, killed in the end; none of those below it is left."""
    with data_dir.with_suffix(".log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "l02.cli", "up", "--data-dir", str(data_dir)), env=_ENVIRONMENT, stderr=log
        )
    try:
        yield process
        assert process.returncode is None, data_dir.with_suffix(".log").read_text()
    finally:
        below = psutil.Process(process.pid).children(recursive=True) if process.returncode is None else []
        if process.returncode is None:
            process.kill()
        await process.wait()
    if sys.platform == "linux":  # elsewhere the next node stops them
        await until(lambda: not any(alive(one.pid) for one in below) and not servers_of(data_dir))


def servers_of(data_dir: Path) -> list[psutil.Process]:
    """Those too that were started in the moment of the kill."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE
        and any(str(data_dir) in argument for argument in process.info["cmdline"] or ())
    ]


async def ready(process: Process, data_dir: Path) -> dict[str, Any]:
    """What the node says about itself when it is ready."""
    file = data_dir / "l02.json"

    def facts() -> dict[str, Any] | None:
        assert process.returncode is None, data_dir.with_suffix(".log").read_text()
        try:
            found: dict[str, Any] = json.loads(file.read_text())
        except FileNotFoundError:  # its predecessor's goes at any moment
            return None
        return found if found.get("pid") == process.pid else None

    found: dict[str, Any] = await until(facts, seconds=60)
    return found


class Workload:
    """Each agent is told a number and has it back from a piece of work that waits for it, one after another."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.is_over = asyncio.Event()
        self.told: dict[str, Outcome] = {}
        self.completed = dict.fromkeys(AGENTS, 0)

    async def run(self) -> None:
        """Work with all agents until `is_over`."""
        async with asyncio.TaskGroup() as tasks:
            for agent_id in AGENTS:
                tasks.create_task(self._work_with(agent_id))

    async def _work_with(self, agent_id: str) -> None:
        specification = worker(lifecycle={"restart_delay_seconds": [0.05], "max_restart_count": 999})
        await self._client.spawn(specification, id=agent_id, command_id=f"{agent_id}-spawn")
        steps = [["signal", "go", 300], ["random"], ["tool", "add", {"a": 2, "b": 3}]]
        while not self.is_over.is_set():
            number = self.completed[agent_id] + 1
            signalled = f"{agent_id}-signal-{number}"
            self.told[signalled] = await self._client.signal(agent_id, "go", number, command_id=signalled)
            done = await self._client.execute(agent_id, {"steps": steps}, command_id=f"{agent_id}-execute-{number}")
            got, drawn, added = done.output
            assert (got, added) == (number, 5) and 0 <= drawn < 1
            self.completed[agent_id] = number


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kills", [3, pytest.param(200, marks=pytest.mark.soak)])
async def test_killed_at_random_instants_it_goes_on_where_it_was(data_dir: Path, kills: int) -> None:
    chance = random.Random(kills)
    async with AsyncExitStack() as throughout:
        async with starting(data_dir) as process:
            url = (await ready(process, data_dir))["nats_url"]
            client = await throughout.enter_async_context(Client.connect(nats_url=url, actor="tests"))
        workload = Workload(client)
        working = asyncio.create_task(workload.run())
        throughout.push_async_callback(end, working)
        for _ in range(kills):
            async with starting(data_dir) as process:
                if chance.random() < 0.8:
                    assert (await ready(process, data_dir))["nats_url"] == url
                await asyncio.sleep(chance.uniform(0.0, 1.5))
                if working.done():  # by itself: say why
                    working.result()
        async with starting(data_dir) as process:
            facts = await ready(process, data_dir)
            workload.is_over.set()
            async with asyncio.timeout(60):
                await working
            differences: list[object] = []
            summary = await verify(client._bus, facts["postgres_url"], differences.append, patience=60)
            assert differences == []
            for agent_id, completed in workload.completed.items():
                await require_once_and_in_order(client, agent_id, completed)
            for command_id, told in workload.told.items():
                assert await outcomes(client._bus, command_id) == [told]
            await throughout.aclose()
    print(f"{kills} kills, {sum(workload.completed.values())} pieces of work completed, {summary.events} events")
    assert min(workload.completed.values()) > 0


async def require_once_and_in_order(client: Client, agent_id: str, completed: int) -> None:
    events = [recorded.event async for recorded in client.events(agent_id)]
    numbers = list(range(1, completed + 1))
    assert [event.payload for event in events if isinstance(event, SignalReceived)] == numbers
    expected = [f"{agent_id}-execute-{number}" for number in numbers]
    assert [event.execution_id for event in events if isinstance(event, ExecutionStarted)] == expected
    assert [event.execution_id for event in events if isinstance(event, ExecutionCompleted)] == expected
    assert not any(isinstance(event, ExecutionFailed) for event in events)
