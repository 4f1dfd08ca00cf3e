"""Every kind of thing that an agent may ask for: what leaves waits for the record, and all else does not.

The tables name each kind; one that is new fails here until somebody has said what it is.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, get_args

import pytest
import pytest_asyncio
from msgspec import Struct

from l02.bus.commands.leases import Leases, hold_lease
from l02.bus.connection.bus import Bus, connect
from l02.bus.connection.streams import ensure_streams
from l02.bus.embedded import EmbeddedNats
from l02.bus.log.repository import Repository
from l02.bus.wire.agent.protocol import (
    AgentMessage,
    Begin,
    Call,
    CallKind,
    Complete,
    Diverged,
    Emit,
    Fail,
    Hello,
    LoadFailed,
    Pong,
    StateChanges,
    Step,
    StepKind,
    Steps,
    ToolResult,
)
from l02.bus.wire.subjects import stream_subject
from l02.domain.agent.work.signals import SignalReceived
from l02.domain.aggregates import AGENT, AGGREGATES
from l02.domain.specification import AgentSpecification, RuntimeClass, ToolServer
from l02.handlers.executor.journal.records import Records
from l02.handlers.executor.runner import AgentRunner
from l02.handlers.executor.tools.checks import SchemaChecks
from l02.handlers.executor.work import Surroundings
from l02.handlers.models.bridge import open_models
from l02.handlers.models.settings import Defaults, model_settings
from l02.handlers.tool_servers import ToolServers
from tests.bus.toy import until
from tests.domain.agent.story import spawn_requested, spawned, started
from tests.executor.playing import Agent, HeldStore, NoBudgets, NoLimits, Place, log_of
from tests.models.endpoint import ScriptedEndpoint, scripted_endpoint
from tests.nodes.conftest import LEDGER


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
        log = log_of(spawn_requested(spec=specification), spawned(), started(), SignalReceived(name="go", payload=1))
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
            node = Surroundings(bus, agents, servers, checks, "n1", leases, asked_models, NoBudgets(), NoLimits())
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
