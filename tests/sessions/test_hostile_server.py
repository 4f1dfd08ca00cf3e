"""A session server that answers with hostile values in every field: each call has an answer or one line of failure."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from l02.domain.agent.session import SavedSnapshot
from l02.domain.agent.sessions import SessionStarted
from l02.domain.specification import RuntimeClass
from l02.handlers.sessions.calls import CallFailed, Calls
from l02.handlers.sessions.orchestrator import Orchestrator
from l02.handlers.tool_servers import ToolServers
from tests.sessions.conftest import Agents, Node, Server
from tests.tools.hostile import VALUES, messages, spoiled_fields

SAVED = SavedSnapshot(version=1, context_checkpoint_id=None)
ANSWERS: dict[str, Any] = {
    "save": {"success": True, "taskId": "t", "version": 1, "savedTo": {"database": True}, "timestamp": "now"},
    "create": {"success": True, "checkpointId": "c", "label": "l", "createdAt": "now"},
    "roll back": {"success": True, "backupCheckpointId": "b", "restoredState": {}},
    "recovery": {
        "needsRecovery": True,
        "sessions": [{"sessionId": "s", "recoveryType": "crash", "lastActivity": "yesterday"}],
    },
    "heartbeat": {"projectId": "p", "global": {}, "task": {"taskId": "t"}},
}


def operations(orchestrator: Orchestrator) -> dict[str, Callable[[], Awaitable[Any]]]:
    return {
        "save": lambda: orchestrator.save("start", "t", "s", {}, "begun"),
        "create": lambda: orchestrator.create_checkpoint("t", "s", "l", "d"),
        "roll back": lambda: orchestrator.roll_back("t", "s", SAVED),
        "recovery": orchestrator.lost_sessions,
        "heartbeat": lambda: orchestrator.heartbeat("t"),
    }


def as_text(answer: bytes) -> bytes:
    """What a tool answers in its one text."""
    content = [{"type": "text", "text": answer.decode(errors="replace")}]
    return b'{"jsonrpc": "2.0", "id": @ID@, "result": ' + json.dumps({"content": content}).encode() + b"}\n"


def cases() -> Iterator[tuple[str, bytes]]:
    for name, answer in ANSWERS.items():
        yield from ((name, as_text(raw)) for raw in spoiled_fields(answer, VALUES))
    yield from (("save", raw) for raw in list(messages())[::9])


async def test_every_answer(server: Server, tmp_path: Path) -> None:
    async with ToolServers(tmp_path / "scratch", tmp_path / "logs", RuntimeClass.PROCESS) as servers:
        todo = operations(Orchestrator(Calls(servers, server.specification, 20)))
        server.behave("raw")
        for name, raw in cases():
            (server.directory / "raw").write_bytes(raw)
            try:
                json.dumps(await todo[name](), default=str)
            except CallFailed as failure:
                assert str(failure)
                assert len(str(failure).splitlines()) == 1
                assert len(str(failure)) <= 500
                assert "\0" not in str(failure)
        server.behave("good")
        assert await todo["save"]() is not None


async def test_what_stands_in_events_is_short_and_no_nul(agents: Agents, node: Node, server: Server) -> None:
    """The session fails until the server answers with something that can be kept."""
    for version in (10**400, "v" * 100_000, "nul \0", {"a": 1}):
        (server.directory / "raw").write_bytes(as_text(json.dumps({"success": True, "version": version}).encode()))
        server.behave("raw")
        agent_id = f"a{len(agents.recorded)}"
        async with node.bridge(server.specification):
            await agents.spawn(agent_id)
            assert (await agents.until_degraded("start", agent_id)).code == "E2050"
            server.behave("good")
            await agents.until_type(SessionStarted, agent_id)
