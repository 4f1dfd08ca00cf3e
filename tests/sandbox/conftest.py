"""Real sandboxes, and agents in them that do what a test asks and answer with what came of it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from l02.domain.specification import RuntimeClass
from l02.handlers.sandbox.confinement.policy import PythonEntry, SandboxPolicy
from l02.handlers.sandbox.process import SandboxedProcess
from l02.handlers.sandbox.sandboxes import Sandboxes
from tests.sandbox import inside

INSIDE = inside.__name__

landlock_only = pytest.mark.skipif(sys.platform != "linux", reason="Landlock is a part of Linux")


class Agent:
    """A sandboxed process that serves `inside.ACTIONS`."""

    def __init__(self, process: SandboxedProcess) -> None:
        self.process = process
        self._received = b""

    async def ask(self, name: str, *arguments: Any) -> dict[str, Any]:
        await self.send(name, *arguments)
        loop = asyncio.get_running_loop()
        while b"\n" not in self._received:
            part = await loop.sock_recv(self.process.socket, 65536)
            if not part:
                raise EOFError("the agent has closed its socket")
            self._received += part
        line, _, self._received = self._received.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def send(self, name: str, *arguments: Any) -> None:
        line = json.dumps([name, *arguments]).encode() + b"\n"
        await asyncio.get_running_loop().sock_sendall(self.process.socket, line)

    async def value(self, name: str, *arguments: Any) -> Any:
        answer = await self.ask(name, *arguments)
        assert "value" in answer, answer
        return answer["value"]

    async def refusal(self, name: str, *arguments: Any) -> int:
        """Ask for what must be refused, and return the error number."""
        answer = await self.ask(name, *arguments)
        assert "error" in answer, f"{name}{arguments} was not refused"
        number: int = answer["errno"]
        return number


@pytest_asyncio.fixture(scope="session")
async def sandboxes() -> AsyncIterator[Sandboxes]:
    async with Sandboxes([INSIDE]) as manager:
        yield manager


@pytest.fixture
def policy(tmp_path: Path) -> SandboxPolicy:
    return SandboxPolicy(workspace=str(tmp_path / "workspace"), environment={"COLOUR": "green"})


@pytest_asyncio.fixture
async def spawn(sandboxes: Sandboxes, policy: SandboxPolicy, tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    agents: list[Agent] = []

    async def start(runtime_class: RuntimeClass = RuntimeClass.LANDLOCK, policy: SandboxPolicy = policy) -> Agent:
        entry = PythonEntry(f"{INSIDE}:serve", {"greeting": "hello"})
        agent = Agent(await sandboxes.spawn(runtime_class, policy, entry, str(tmp_path / "agent.log")))
        agents.append(agent)
        return agent

    yield start
    for agent in agents:
        agent.process.kill()
        await agent.process.wait()
        agent.process.socket.close()
