"""A session that cannot be kept is tried less and less often, is told in full once, and takes no other along."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from l02.bus.log.loaded import Loaded
from l02.bus.wire.codec import encode_event
from l02.bus.wire.subjects import AggregateId, event_subject
from l02.domain.agent.sessions import SessionEnded, SessionStarted
from l02.domain.agent.state import AgentState
from l02.domain.agent.work.signals import SignalReceived
from l02.domain.kernel.message import Metadata
from l02.handlers.sessions import bridge
from tests.sessions.conftest import Agents, Node, Server, keepers, until


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "_FIRST_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(bridge, "_LONGEST_RETRY_SECONDS", 0.05)


def about_failures(lines: list[Any]) -> list[tuple[str, float, bool]]:
    """Of each failed try: how loudly it was said, the pause that follows, and whether with a traceback."""
    return [(line["log_level"], line["again_in"], "exc_info" in line) for line in lines if "again_in" in line]


async def happens_in_a_newer_version(agents: Agents, node: Node, agent_id: str) -> None:
    loaded = await agents.repository.load(agent_id)
    aggregate = AggregateId("agent", agent_id)
    event = SignalReceived(name="newer", payload=None)
    raw = encode_event(
        event,
        aggregate=aggregate,
        event_id="newer",
        version=loaded.version + 1,
        time=loaded.created_at,  # type: ignore[arg-type]  # an agent that was spawned has one
        metadata=Metadata(causation_id="newer", correlation_id="test", actor="test"),
    )
    document = msgspec.json.decode(raw) | {"schemaversion": 99}
    await node.bus.publish(event_subject(aggregate, event.type), msgspec.json.encode(document))


async def test_an_agent_that_cannot_be_read(agents: Agents, node: Node, server: Server) -> None:
    for agent_id in ("a1", "a2"):
        await agents.spawn(agent_id)
    await happens_in_a_newer_version(agents, node, "a1")
    with capture_logs() as lines:
        async with node.bridge(server.specification, "a1", "a2"):
            await agents.until_type(SessionStarted, "a2")
            await until(lambda: len(about_failures(lines)) >= 6)
    assert about_failures(lines)[:6] == [
        ("error", 0.01, True),
        ("info", 0.02, False),
        ("info", 0.04, False),
        *[("info", 0.05, False)] * 3,
    ]
    assert agents.events("a1") == []


async def test_a_failure_that_passes(
    agents: Agents, node: Node, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    await agents.spawn()
    failures: list[Exception] = [OSError("first"), OSError("first"), OSError("another")]
    load = agents.repository.load

    async def failing(agent_id: str) -> Loaded[AgentState]:
        if failures:
            raise failures.pop(0)
        return await load(agent_id)

    monkeypatch.setattr(agents.repository, "load", failing)
    with capture_logs() as lines:
        async with node.bridge(server.specification, "a1"):
            await agents.until_type(SessionStarted)
            await agents.terminate()
            await agents.until_type(SessionEnded)
            await until(lambda: not keepers())
    assert [level for level, *_ in about_failures(lines)] == ["error", "info", "error"], "another one is news"
