"""Every kind of thing that an agent may ask for: what leaves waits for the record, and all else does not.

The tables name each kind; one that is new fails here until somebody has said what it is.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast, get_args

import pytest
import pytest_asyncio
from msgspec import Struct

from l02.bus.background.cancelling import end
from l02.bus.commands.leases import Leases, hold_lease
from l02.bus.connection.bus import Bus, connect
from l02.bus.connection.streams import ensure_streams
from l02.bus.embedded import EmbeddedNats
from l02.bus.log.repository import Repository
from l02.bus.wire.agent.lines import decode_node_message, encode
from l02.bus.wire.agent.protocol import (
    AgentMessage,
    Answer,
    Begin,
    Call,
    CallKind,
    Complete,
    Diverged,
    Emit,
    Execute,
    Fail,
    Hello,
    LoadFailed,
    NodeMessage,
    Pong,
    RunTool,
    StateChanges,
    Step,
    StepKind,
    Steps,
    ToolDescription,
    ToolResult,
)
from l02.bus.wire.codec import EventDecoder, encode_event
from l02.bus.wire.subjects import AggregateId, event_subject, stream_subject
from l02.domain.agent.work.signals import SignalReceived
from l02.domain.aggregates import AGENT, AGGREGATES
from l02.domain.inference import Drawn, Spending
from l02.domain.kernel.message import Event
from l02.domain.specification import AgentSpecification, ResourceLimits, RuntimeClass, ToolServer
from l02.handlers.executor.journal.records import Records
from l02.handlers.executor.runner import AgentRunner
from l02.handlers.executor.tools.checks import SchemaChecks
from l02.handlers.executor.work import Surroundings
from l02.handlers.models.bridge import open_models
from l02.handlers.models.settings import Defaults, model_settings
from l02.handlers.sandbox.channel import AgentChannel
from l02.handlers.sandbox.processes import AgentProcess
from l02.handlers.tool_servers import ToolServers
from tests.bus.toy import metadata, until
from tests.domain.agent.story import spawn_requested, spawned, started
from tests.event_store.memory import MemoryEventStore, MemoryLog
from tests.models.endpoint import ScriptedEndpoint, scripted_endpoint
from tests.nodes.conftest import LEDGER

_ADDRESS = AggregateId("agent", "a1")
_SCHEMA = {"type": "object"}
_TOOLS = [ToolDescription("mark", "", _SCHEMA), ToolDescription("count", "", _SCHEMA, idempotent=True)]

Place = Literal["ledger", "text", "log", "process", "answer", "result", "end", "endpoint"]
"""Where it is seen. An answer and an order to run a tool that may run twice come at once, all else leaves."""


class Case(Struct, frozen=True):
    """What the agent says while nothing can be recorded, where that is seen, and what it had said before."""

    says: AgentMessage
    seen: Place
    leaves: bool
    before: AgentMessage | None = None


def _call(kind: CallKind, call: int = 2, **fields: Any) -> Call:
    return Call("x1", call, kind, **fields)


def _tool(name: str, call: int = 2) -> Call:
    return _call("tool", call, tool=name, arguments={"text": "x"} if name in ("note", "look") else {})


def _model(alias: str, **fields: Any) -> Call:
    return _call("model", model=alias, messages=[{"role": "user", "content": "hi"}], **fields)


CALLS: dict[CallKind, list[Case]] = {
    "tool": [
        Case(_tool("note"), "ledger", leaves=True),
        Case(_tool("look"), "ledger", leaves=True),
        Case(_tool("mark"), "process", leaves=True),
        Case(_tool("count"), "process", leaves=False),
        Case(_tool("missing"), "answer", leaves=False),
    ],
    "tools": [Case(_call("tools"), "answer", leaves=False)],
    "model": [
        Case(_model("small"), "endpoint", leaves=True),
        Case(_model("small", stream=True), "text", leaves=True),
        Case(_model("large"), "answer", leaves=False),
    ],
    "now": [Case(_call("now"), "answer", leaves=False)],
    "random": [Case(_call("random"), "answer", leaves=False)],
    "sleep": [Case(_call("sleep", seconds=0.0), "answer", leaves=False)],
    "signal": [Case(_call("signal", name="go", timeout=None), "answer", leaves=False)],
    "checkpoint": [Case(_call("checkpoint", label=None, state=StateChanges()), "log", leaves=True)],
}
_SAID = Emit("x1", 0, "first")
MESSAGES: dict[type[AgentMessage], list[Case]] = {
    Call: [case for cases in CALLS.values() for case in cases],
    Emit: [Case(Emit("x1", 0, "text"), "text", leaves=True)],
    Complete: [
        Case(Complete("x1", None), "text", leaves=True, before=_SAID),
        Case(Complete("x1", None), "end", leaves=True),
    ],
    Fail: [Case(Fail("x1", "why"), "text", leaves=True, before=_SAID), Case(Fail("x1", "why"), "end", leaves=True)],
    ToolResult: [Case(ToolResult("x1", 1, True, result=1), "answer", leaves=False, before=_tool("mark", 1))],
    # What says something of the agent alone, or comes in its own test below.
    **{kind: list[Case]() for kind in (Hello, LoadFailed, Pong, Begin, Diverged, Steps)},
}
STEPS: dict[StepKind, Step] = {
    "tool": Step(1, "tool", 0, "count", {}, result=3),
    "now": Step(1, "now", 0, result=1.5),
    "random": Step(1, "random", 0, result=0.5),
    "thread": Step(1, "thread", 0),
}


def test_every_kind_is_known() -> None:
    assert set(CALLS) == {*get_args(CallKind)}
    assert set(STEPS) == {*get_args(StepKind)}
    assert set(MESSAGES) == {*get_args(AgentMessage)}


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


@pytest_asyncio.fixture
async def bus(fresh_nats: EmbeddedNats) -> AsyncIterator[Bus]:
    async with connect(fresh_nats.url, name="test", aggregates=AGGREGATES) as connected:
        await ensure_streams(connected)
        yield connected


@pytest_asyncio.fixture
async def leases(bus: Bus) -> AsyncIterator[Leases]:
    async with asyncio.TaskGroup() as tasks, hold_lease(bus, "n1", "here", tasks) as held:
        yield held


@pytest_asyncio.fixture
async def endpoint() -> AsyncIterator[ScriptedEndpoint]:
    async with scripted_endpoint() as server:
        yield server


AtWork = Callable[[bool], Any]


@pytest.fixture
def at_work(
    bus: Bus, leases: Leases, endpoint: ScriptedEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AtWork:
    """An agent at work, which records its steps or does not."""

    @asynccontextmanager
    async def begin(records_steps: bool) -> AsyncIterator[Agent]:
        ledger = tmp_path / "ledger.txt"
        ledger.touch()
        server = ToolServer(command=(sys.executable, str(LEDGER), str(ledger)), idempotent=("look",))
        specification = AgentSpecification(name="a", entrypoint="a:a", tools={"ledger": server}, models=("small",))
        log = _log(spawn_requested(spec=specification), spawned(), started(), SignalReceived(name="go", payload=1))
        store = HeldStore(log)
        agent = Agent(log, store, ledger, bus, endpoint)
        stored = Records.stored

        async def asked(records: Records) -> None:
            agent.asked.set()
            await stored(records)

        monkeypatch.setattr(Records, "stored", asked)

        async def told(message: Any) -> None:
            agent.told.append(message.data)

        await bus.client.subscribe(stream_subject("a1", "x1"), cb=told)
        checks = SchemaChecks()
        models = model_settings({"small": [{"endpoint": endpoint.url, "model": "any"}]}, Defaults(), tmp_path)
        async with (
            ToolServers(tmp_path / "scratch", tmp_path / "logs", RuntimeClass.PROCESS) as servers,
            open_models(models) as asked_models,
        ):
            agents = Repository(AGENT, store, "n1")
            node = Surroundings(bus, agents, servers, checks, "n1", leases, asked_models, NoBudgets())
            agent.runner = AgentRunner(node, "a1")
            try:
                await agent.begin(records_steps)
                yield agent
            finally:
                store.open.set()
                await agent.runner.close()
                await agent.end()
                await checks.close()

    return begin


def _log(*events: Event) -> MemoryLog:
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


async def is_seen(agent: Agent, place: Place, before: int) -> bool:
    return await agent.seen(place) > before


def _name(case: Case) -> str:
    what = case.says.tool if isinstance(case.says, Call) and isinstance(case.says.tool, str) else ""
    kind = case.says.kind if isinstance(case.says, Call) else type(case.says).__name__
    return f"{kind} {what} {case.seen}"


@pytest.mark.parametrize("case", [case for cases in MESSAGES.values() for case in cases], ids=_name)
async def test_what_leaves_waits_for_the_record_and_all_else_does_not(at_work: AtWork, case: Case) -> None:
    async with at_work(False) as agent:
        place: Place = case.seen
        call = 1
        if isinstance(case.before, Call):
            call = 2
            agent.say(case.before)
            await until(lambda: agent.seen("process"))
        elif case.before is not None:
            agent.say(case.before)
            await until(lambda: agent.seen("text"))
        agent.store.open.clear()
        agent.say(_call("random", call))
        await until(lambda: agent.seen("answer"))
        before = await agent.seen(place)
        agent.asked.clear()
        agent.say(case.says)
        if case.leaves:
            await agent.require_it_waits(place, before)
            agent.store.open.set()
        await until(lambda: is_seen(agent, place, before))


@pytest.mark.parametrize("kind", get_args(StepKind))
async def test_what_the_agent_did_itself_is_on_record_before_what_leaves(at_work: AtWork, kind: StepKind) -> None:
    async with at_work(True) as agent:
        agent.store.open.clear()
        agent.say(Begin("x1", 1, "count"))
        agent.say(Steps("x1", [STEPS[kind]]))
        agent.asked.clear()
        agent.say(_tool("look"))
        await agent.require_it_waits("ledger", 0)
        agent.store.open.set()
        await until(lambda: agent.seen("ledger"))


@pytest.mark.parametrize("says", [_tool("note"), Emit("x1", 0, "text"), _model("small")], ids=["tool", "text", "model"])
async def test_what_leaves_waits_for_the_lease(
    at_work: AtWork, monkeypatch: pytest.MonkeyPatch, says: AgentMessage
) -> None:
    place: Place = "text" if isinstance(says, Emit) else "ledger" if says == _tool("note") else "endpoint"
    async with at_work(False) as agent:
        held = asyncio.Event()

        async def hold(leases: Leases) -> int:
            agent.asked.set()
            await held.wait()
            return leases.term

        monkeypatch.setattr(Leases, "held", hold)
        agent.say(_call("random", 1))
        await until(lambda: agent.seen("answer"))
        agent.asked.clear()
        agent.say(says)
        await agent.require_it_waits(place, 0)
        held.set()
        await until(lambda: agent.seen(place))


async def test_a_call_that_is_answered_before_the_next_process_asks_is_made_once(at_work: AtWork) -> None:
    slow = _call("tool", 1, tool="note", arguments={"text": "x", "seconds": 1.0})
    async with at_work(False) as agent:
        agent.say(slow)
        await until(lambda: agent.seen("ledger"))
        await agent.begin(False)
        await until(lambda: agent.seen("result"))
        agent.say(slow)
        await until(lambda: agent.seen("answer"))
        agent.say(_call("random"))
        await until(lambda: is_seen(agent, "answer", 1))
        assert await agent.seen("ledger") == 1
