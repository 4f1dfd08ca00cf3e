"""The process of an agent at work, played by a test, and what that stands on: a store one can shut, no budgets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast

from l02.bus.background.cancelling import end
from l02.bus.connection.bus import Bus
from l02.bus.wire.agent.lines import decode_node_message, encode
from l02.bus.wire.agent.protocol import AgentMessage, Answer, Execute, Hello, NodeMessage, RunTool, ToolDescription
from l02.bus.wire.codec import EventDecoder, encode_event
from l02.bus.wire.subjects import AggregateId, event_subject
from l02.domain.aggregates import AGENT
from l02.domain.errors import Failure
from l02.domain.inference import Drawn, Spending
from l02.domain.kernel.message import Event
from l02.domain.specification import ResourceLimits
from l02.handlers.executor.runner import AgentRunner
from l02.handlers.sandbox.channel import AgentChannel
from l02.handlers.sandbox.processes import AgentProcess
from tests.bus.toy import metadata, until
from tests.event_store.memory import MemoryEventStore, MemoryLog
from tests.models.endpoint import ScriptedEndpoint

_ADDRESS = AggregateId("agent", "a1")
_SCHEMA = {"type": "object"}
_TOOLS = [ToolDescription("mark", "", _SCHEMA), ToolDescription("count", "", _SCHEMA, idempotent=True)]

Place = Literal["ledger", "text", "log", "process", "answer", "result", "end", "endpoint"]
"""Where it is seen. An answer and an order to run a tool that may run twice come at once, all else leaves."""


class HeldStore(MemoryEventStore):
    """Stores nothing while it is shut."""

    def __init__(self, log: MemoryLog) -> None:
        super().__init__(log)
        self.open = asyncio.Event()
        self.open.set()

    async def append(
        self, aggregate: AggregateId, messages: Sequence[tuple[str, bytes]], expected: int, trail: Sequence[int] = ()
    ) -> int:
        await self.open.wait()
        return await super().append(aggregate, messages, expected, trail)


class NoLimits:
    """Who is refused is told."""

    async def met(self, agent_id: str, execution_id: str, call: int, needed: Spending, refused: Failure) -> None:
        raise refused


class NoBudgets:
    """Nothing is drawn, and nothing refused: what the real ones do has tests of its own."""

    async def reserve(self, budgets: tuple[str, ...], spending: Spending) -> tuple[Drawn, ...]:
        """From nowhere."""
        return ()

    def holds(self, drawn: Sequence[Drawn]) -> bool:
        """There are none."""
        return True

    def settle(self, drawn: Sequence[Drawn], reserved: Spending, used: Spending) -> None:
        """Nobody has lent it."""


class Agent:
    """Plays the process of an agent at work on x1."""

    runner: AgentRunner

    def __init__(self, log: MemoryLog, store: HeldStore, ledger: Path, bus: Bus, endpoint: ScriptedEndpoint) -> None:
        self._endpoint = endpoint
        self.log = log
        self.store = store
        self.asked = asyncio.Event()
        """Something that is to leave waits for the record."""
        self.heard: list[NodeMessage] = []
        self.told: list[bytes] = []
        """What was streamed."""
        self._ledger = ledger
        self._bus = bus
        self._writer: asyncio.StreamWriter | None = None
        self._hearing: list[asyncio.Task[None]] = []

    async def begin(self, records_steps: bool) -> None:
        """Be a process of the agent's; the one before it is gone."""
        await self.runner.detach()
        self.heard.clear()
        ours, theirs = socket.socketpair()
        hello = Hello(1, "a", _TOOLS, records_steps=records_steps)
        process = AgentProcess(
            cast(Any, None), await AgentChannel.open(ours), cast(Any, None), hello, 1, 0.0, ResourceLimits()
        )
        reader, self._writer = await asyncio.open_connection(sock=theirs, limit=1 << 20)

        async def hear() -> None:
            while line := await reader.readline():
                self.heard.append(decode_node_message(line.rstrip(b"\n")))

        self._hearing.append(asyncio.create_task(hear()))
        self.runner.attach(process)
        await until(lambda: any(isinstance(message, Execute) for message in self.heard))

    async def end(self) -> None:
        for hearing in self._hearing:
            await end(hearing)

    def say(self, message: AgentMessage) -> None:
        assert self._writer is not None
        self._writer.write(encode(message))

    async def seen(self, place: Place) -> int:
        """How many of what is seen there."""
        await self._bus.client.flush()
        kinds = [self.log.at(sequence).event.type for sequence in self.log.of(_ADDRESS)]
        match place:
            case "ledger":
                return len(self._ledger.read_text().splitlines())
            case "text":
                return len(self.told)
            case "endpoint":
                return len(self._endpoint.requests)
            case "log":
                return kinds.count("agent.checkpoint.requested")
            case "result":
                return kinds.count("agent.tool.called")
            case "end":
                return len([kind for kind in kinds if kind.startswith("agent.execution.")]) - 1
            case "process":
                return sum(isinstance(message, RunTool) for message in self.heard)
            case "answer":
                return sum(isinstance(message, Answer) for message in self.heard)

    async def require_it_waits(self, place: Place, before: int) -> None:
        """It is held, and was not seen."""
        async with asyncio.timeout(20):
            await self.asked.wait()
        assert await self.seen(place) == before, "it has left"


def log_of(*events: Event) -> MemoryLog:
    """An agent to whom this has happened."""
    log = MemoryLog(EventDecoder([AGENT]))
    for version, event in enumerate(events, start=1):
        subject = event_subject(_ADDRESS, event.type)
        encoded = encode_event(
            event,
            aggregate=_ADDRESS,
            event_id=f"e{version}",
            version=version,
            time=datetime.now(UTC),
            metadata=metadata(),
        )
        log.put(subject, encoded)
    return log
