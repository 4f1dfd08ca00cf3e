"""The tools of the context server, over real stdio with the package `mcp`'s own client."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import asyncpg
import pytest
from mcp.shared.exceptions import MCPError

from l02.context import store
from tests.context.conftest import ContextServer

Start = Callable[..., AbstractAsyncContextManager[ContextServer]]


async def test_the_tools_are_those_of_the_reference(server: ContextServer) -> None:
    listed = {tool.name: tool for tool in (await server.session.list_tools()).tools}
    assert {name: {*tool.input_schema["properties"]} for name, tool in listed.items()} == {
        "get_unified_context": {"taskId", "includeRelationships", "includeVersionHistory", "maxVersions"},
        "save_context_snapshot": {"taskId", "updates", "changeSummary", "sessionId", "syncToFile"},
        "create_checkpoint": {"label", "description", "taskId", "checkpointType", "includeTasks", "sessionId"},
        "rollback_to": {"taskId", "target", "createBackup", "sessionId"},
        "check_recovery": {"markRecovered", "includeHistory"},
        "switch_task": {"fromTaskId", "toTaskId", "saveCurrentState", "currentTaskUpdates", "sessionId"},
    }
    assert listed["get_unified_context"].input_schema["properties"]["maxVersions"]["default"] == 5
    assert all(tool.description for tool in listed.values())


async def test_a_snapshot_changes_what_it_names(server: ContextServer) -> None:
    saved = await server.call(
        "save_context_snapshot",
        taskId="t1",
        sessionId="s1",
        updates={
            "status": "in_progress",
            "currentPhase": "reading",
            "iteration": 2,
            "score": 0.5,
            "immediateContext": {"workingOn": "chapter 1", "blockers": ["ink\x00"]},
            "keyFiles": ["a.md"],
            "technicalDecisions": [{"decision": "pen"}],
            "lockedElements": ["title"],
            "resumePrompt": "go on",
        },
        changeSummary="begun",
    )
    assert saved["success"] is True
    assert saved["version"] == 1
    assert saved["savedTo"] == {"database": True, "redis": False, "file": False}
    await server.call("save_context_snapshot", taskId="t1", updates={"immediateContext": {"lastAction": "read"}})
    answer = await server.call("get_unified_context", taskId="t1", includeVersionHistory=True)
    assert answer["projectId"] == "l02"
    assert answer["global"] == {"hardRules": [], "techStack": [], "keyPaths": {}, "services": []}
    assert answer["task"] == {
        "taskId": "t1",
        "name": "t1",
        "version": 2,
        "status": "in_progress",
        "currentPhase": "reading",
        "iteration": 2,
        "score": 0.5,
        "lockedElements": ["title"],
        "immediateContext": {
            "workingOn": "chapter 1",
            "lastAction": "read",
            "nextStep": None,
            "blockers": ["ink\x00"],
        },
        "keyFiles": ["a.md"],
        "technicalDecisions": [{"decision": "pen"}],
        "resumePrompt": "go on",
    }
    assert [(old["version"], old["changeSummary"], old["sessionId"]) for old in answer["versionHistory"]] == [
        (2, None, None),
        (1, "begun", "s1"),
    ]
    assert answer["metadata"]["tasks"] == {"in_progress": 1}


async def test_the_project_is_what_its_file_says(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "project.json"
    file.write_text(json.dumps({"projectId": "archive", "hardRules": ["ask first"]}))
    async with start("--project", str(file)) as server:
        answer = await server.call("get_unified_context")
    assert answer["projectId"] == "archive"
    assert answer["global"]["hardRules"] == ["ask first"]
    assert "task" not in answer


UNKNOWN: list[tuple[str, dict[str, object]]] = [
    ("get_unified_context", {"taskId": "t9"}),
    ("save_context_snapshot", {"taskId": "t9"}),
    ("create_checkpoint", {"label": "one", "taskId": "t9"}),
    ("create_checkpoint", {"label": "one", "includeTasks": ["t9"]}),
    ("rollback_to", {"taskId": "t9", "target": {"type": "version", "version": 1}}),
    ("switch_task", {"toTaskId": "t9"}),
    ("switch_task", {"fromTaskId": "t9", "toTaskId": "t1"}),
]
WITHOUT_SENSE: list[tuple[str, dict[str, object], str]] = [
    ("save_context_snapshot", {"updates": {}}, "missing required field `taskId`"),
    ("save_context_snapshot", {"taskId": "t1", "updates": {"status": "done"}}, "Invalid enum value 'done'"),
    ("save_context_snapshot", {"taskId": "t\x001"}, "matching regex"),
    ("save_context_snapshot", {"taskId": "t1", "task": 1}, "unknown field `task`"),
    ("create_checkpoint", {"label": ""}, "length >= 1"),
    ("rollback_to", {"taskId": "t1", "target": {"type": "date"}}, "Invalid value 'date'"),
    ("rollback_to", {"taskId": "t1", "target": {"type": "version", "version": 7}}, "has no version 7"),
    ("rollback_to", {"taskId": "t1", "target": {"type": "checkpoint", "checkpointId": "k"}}, "no checkpoint 'k'"),
    ("check_recovery", {"markRecovered": "s9"}, "session 's9' is not known"),
]


async def test_what_is_unknown_or_makes_no_sense_is_refused_and_changes_nothing(server: ContextServer) -> None:
    await server.call("save_context_snapshot", taskId="t1", sessionId="s1")
    unknown = [(tool, arguments, "task 't9' is not known") for tool, arguments in UNKNOWN]
    for tool, arguments, message in (*unknown, *WITHOUT_SENSE):
        assert message in await server.refused(tool, **arguments), (tool, arguments)
        answer = await server.call("get_unified_context", taskId="t1", includeVersionHistory=True)
        assert len(answer["versionHistory"]) == 1, (tool, arguments)
    with pytest.raises(MCPError, match="there is no tool 'get_task_graph'"):
        await server.session.call_tool("get_task_graph", {})


async def test_rollback_to_a_version_and_to_a_checkpoint(server: ContextServer) -> None:
    for phase in ("one", "two", "three"):
        await server.call("save_context_snapshot", taskId="t1", sessionId="s1", updates={"currentPhase": phase})
        if phase == "two":
            checkpoint = await server.call("create_checkpoint", label="second", taskId="t1", sessionId="s1")
    assert (checkpoint["scope"], checkpoint["includedTasks"]) == ("task", ["t1"])
    first = await server.call("rollback_to", taskId="t1", target={"type": "version", "version": 1})
    assert first["restoredState"]["currentPhase"] == "one"
    assert first["rolledBackTo"] == {"type": "version", "identifier": 1}
    target = {"type": "checkpoint", "checkpointId": checkpoint["checkpointId"]}
    second = await server.call("rollback_to", taskId="t1", target=target, createBackup=False)
    assert second["restoredState"]["currentPhase"] == "two"
    assert "backupCheckpointId" not in second
    backup = {"type": "checkpoint", "checkpointId": first["backupCheckpointId"]}
    back = await server.call("rollback_to", taskId="t1", target=backup)
    assert back["restoredState"]["currentPhase"] == "three"
    task = (await server.call("get_unified_context", taskId="t1"))["task"]
    assert (task["version"], task["currentPhase"]) == (6, "three"), "history is kept"


async def test_a_checkpoint_of_all_leaves_out_what_is_archived(server: ContextServer) -> None:
    for task_id, status in (("t1", "in_progress"), ("t2", "archived"), ("t3", "pending")):
        await server.call("save_context_snapshot", taskId=task_id, sessionId="s1", updates={"status": status})
    checkpoint = await server.call("create_checkpoint", label="all", checkpointType="milestone")
    assert (checkpoint["scope"], checkpoint["includedTasks"]) == ("project", ["t1", "t3"])


async def test_switching_saves_the_one_and_takes_up_the_other(server: ContextServer) -> None:
    for task_id in ("t1", "t2"):
        await server.call("save_context_snapshot", taskId=task_id, sessionId="s1", updates={"status": "pending"})
    answer = await server.call(
        "switch_task",
        fromTaskId="t1",
        toTaskId="t2",
        currentTaskUpdates={"status": "blocked", "immediateContext": {"nextStep": "ask"}},
        sessionId="s1",
    )
    assert answer["previousTask"]["status"] == "blocked"
    assert answer["previousTask"]["immediateContext"]["nextStep"] == "ask"
    assert (answer["newTask"]["taskId"], answer["newTask"]["status"]) == ("t2", "in_progress")
    unsaved = await server.call("switch_task", fromTaskId="t2", toTaskId="t1", saveCurrentState=False)
    assert unsaved["previousTask"]["version"] == answer["newTask"]["version"]


async def test_recovery_names_who_was_at_work_when_the_server_ended(start: Start) -> None:
    async with start() as server:
        for session, status in (("s1", "in_progress"), ("s2", "completed"), ("s3", "in_progress")):
            await server.call(
                "save_context_snapshot",
                taskId=f"task of {session}",
                sessionId=session,
                updates={"status": status, "resumePrompt": f"resume {session}"},
                changeSummary="work",
            )
        answer = await server.call("check_recovery")
        assert answer["needsRecovery"] is False, "this server has heard of them itself"
    async with start() as server:
        answer = await server.call("check_recovery", includeHistory=True)
        assert answer["needsRecovery"] is True
        assert [session["sessionId"] for session in answer["sessions"]] == ["s1", "s3"]
        lost = answer["sessions"][0]
        assert lost["taskId"] == lost["taskName"] == "task of s1"
        assert lost["resumePrompt"] == "resume s1"
        assert lost["unsavedChanges"] is False
        assert [entry["changeSummary"] for entry in lost["toolHistory"]] == ["work"]
        left = await server.call("check_recovery", markRecovered="s1")
        assert [session["sessionId"] for session in left["sessions"]] == ["s3"]
        await server.call("save_context_snapshot", taskId="task of s3", sessionId="s3")
        assert (await server.call("check_recovery"))["sessions"] == []
    async with start() as server:
        again = await server.call("check_recovery")
        assert [session["sessionId"] for session in again["sessions"]] == ["s3"], "s1 was marked and silent since"


async def test_sessions_of_a_process_that_lives_are_not_lost(start: Start, database: str) -> None:
    async with start() as asking:
        async with start() as other:
            await other.call("save_context_snapshot", taskId="t1", sessionId="s1", updates={"status": "in_progress"})
            assert (await asking.call("check_recovery"))["sessions"] == []
            await terminate_backends(database)
            connection = await asyncpg.connect(database)
            async with asyncio.timeout(20):
                while await connection.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") < 2:
                    pass
            await connection.close()
            assert (await asking.call("check_recovery"))["sessions"] == [], "it has made itself known again"
        async with asyncio.timeout(20):
            while not (lost := (await asking.call("check_recovery"))["sessions"]):
                pass
        assert [session["sessionId"] for session in lost] == ["s1"]


async def terminate_backends(database: str) -> None:
    """End all connections of context servers to the test's database."""
    connection = await asyncpg.connect(database)
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'l02-context' "
        "AND datname = current_database()"
    )
    await connection.close()


async def test_two_servers_on_one_database(start: Start) -> None:
    async with start() as one, start() as two:
        await one.call("save_context_snapshot", taskId="t1", sessionId="s1")
        saves = [
            server.call("save_context_snapshot", taskId="t1", sessionId="s1", changeSummary=str(number))
            for number in range(20)
            for server in (one, two)
        ]
        versions = [answer["version"] for answer in await asyncio.gather(*saves)]
    assert sorted(versions) == list(range(2, 42))


async def test_old_versions_go_but_for_those_of_checkpoints(server: ContextServer) -> None:
    await server.call("save_context_snapshot", taskId="t1", sessionId="s1", updates={"iteration": 1})
    checkpoint = await server.call("create_checkpoint", label="kept", taskId="t1")
    await server.call("save_context_snapshot", taskId="t1", sessionId="s1", updates={"iteration": 2})
    connection = await asyncpg.connect(server.database)
    await connection.execute("UPDATE l02_context.versions SET version = $1 WHERE version = 2", store.KEPT_VERSIONS + 2)
    await connection.execute("UPDATE l02_context.tasks SET version = $1", store.KEPT_VERSIONS + 2)
    await connection.execute("INSERT INTO l02_context.versions (task_id, version, context) VALUES ('t1', 2, '{}')")
    await connection.close()
    await server.call("save_context_snapshot", taskId="t1", sessionId="s1", updates={"iteration": 3})
    assert "no version 2" in await server.refused("rollback_to", taskId="t1", target={"type": "version", "version": 2})
    target = {"type": "checkpoint", "checkpointId": checkpoint["checkpointId"]}
    back = await server.call("rollback_to", taskId="t1", target=target)
    assert back["restoredState"]["iteration"] == 1


async def test_the_database_goes_and_comes_back(server: ContextServer) -> None:
    await server.call("save_context_snapshot", taskId="t1", sessionId="s1")
    connection = await asyncpg.connect(server.database)
    await connection.execute("ALTER TABLE l02_context.versions RENAME TO away")
    with pytest.raises(MCPError, match="PostgreSQL does not do it"):
        await server.session.call_tool("get_unified_context", {"taskId": "t1"})
    await connection.execute("ALTER TABLE l02_context.away RENAME TO versions")
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'l02-context' "
        "AND datname = current_database()"
    )
    await connection.close()
    assert (await server.call("get_unified_context", taskId="t1"))["task"]["version"] == 1


def test_no_database_is_one_line(tmp_path: Path) -> None:
    environment = {**os.environ, "L02_POSTGRES_URL": "postgresql://nobody:secret@127.0.0.1:1/none"}
    done = subprocess.run(
        [sys.executable, "-m", "l02.cli", "mcp", "context"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "PostgreSQL cannot be used" in done.stderr
    assert "secret" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("content", ["{", '{"rules": []}', None])
def test_a_project_file_that_is_none(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "project.json"
    if content is not None:
        file.write_text(content)
    done = subprocess.run(
        [sys.executable, "-m", "l02.cli", "mcp", "context", "--project", str(file)],
        env={**os.environ, "L02_POSTGRES_URL": "postgresql://127.0.0.1:1/none"},
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 2
    assert "project.json" in done.stderr
