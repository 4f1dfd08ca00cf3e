"""The tools that read and change tasks: get_unified_context, save_context_snapshot and switch_task."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from l02.context.arguments import GetUnifiedContext, SaveContextSnapshot, SwitchTask, Updates
from l02.context.store import Store, unknown_task

if TYPE_CHECKING:
    from l02.context.store import PgConnection


class Project(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """What holds for all tasks; whoever runs the server says it (`--project FILE`)."""

    project_id: str = "l02"
    hard_rules: list[Any] = []
    tech_stack: list[Any] = []
    key_paths: Any = {}
    services: Any = []


async def get_unified_context(store: Store, arguments: GetUnifiedContext, project: Project) -> dict[str, Any]:
    """The project's context, and the task's if one is named."""
    shared = msgspec.to_builtins(project)
    answer: dict[str, Any] = {"projectId": shared.pop("projectId"), "global": shared}
    async with store.transaction() as connection:
        if arguments.task_id is not None:
            answer["task"] = await _task(store, connection, arguments.task_id)
            if arguments.include_version_history:
                answer["versionHistory"] = await _history(connection, arguments.task_id, arguments.max_versions)
        counts = await connection.fetch("SELECT status, count(*) AS number FROM tasks GROUP BY status ORDER BY status")
    answer["metadata"] = {
        "generatedAt": datetime.now(UTC).isoformat(),
        "tasks": {row["status"]: row["number"] for row in counts},
    }
    return answer


async def _task(store: Store, connection: PgConnection, task_id: str) -> dict[str, Any]:
    version = await connection.fetchval("SELECT version FROM tasks WHERE task_id = $1", task_id)
    if version is None:
        raise unknown_task(task_id)
    context = await store.context(connection, task_id, version)
    return {"taskId": task_id, "name": task_id, "version": version, **context.as_json()}


async def _history(connection: PgConnection, task_id: str, limit: int) -> list[dict[str, Any]]:
    rows = await connection.fetch(
        "SELECT version, summary, session_id, created_at FROM versions WHERE task_id = $1 AND version > 0 "
        "ORDER BY version DESC LIMIT $2",
        *(task_id, limit),
    )
    return [
        {
            "version": row["version"],
            "changeSummary": row["summary"],
            "sessionId": row["session_id"],
            "createdAt": row["created_at"].isoformat(),
        }
        for row in rows
    ]


async def save_context_snapshot(store: Store, arguments: SaveContextSnapshot) -> dict[str, Any]:
    """A new version of a task's context. This server has no file and no Redis to save to, and says so."""
    async with store.transaction() as connection:
        if arguments.session_id is not None:
            await store.make_known(connection, arguments.task_id)
        version, time = await _save(
            store, connection, arguments.task_id, arguments.updates, arguments.change_summary, arguments.session_id
        )
    return {
        "success": True,
        "taskId": arguments.task_id,
        "version": version,
        "savedTo": {"database": True, "redis": False, "file": False},
        "timestamp": time.isoformat(),
    }


async def _save(
    store: Store,
    connection: PgConnection,
    task_id: str,
    updates: Updates,
    summary: str | None,
    session_id: str | None,
) -> tuple[int, datetime]:
    version, context = await store.lock(connection, task_id)
    time = await store.write(
        connection, task_id, version + 1, context.updated(updates), summary=summary, session_id=session_id
    )
    return version + 1, time


async def switch_task(store: Store, arguments: SwitchTask) -> dict[str, Any]:
    """Save the task that is left, and show the one that is taken up, which is in progress from now on."""
    left, taken = arguments.from_task_id, arguments.to_task_id
    async with store.transaction() as connection:
        # In the order of ids, so that two switches between the same tasks never wait for each other.
        await connection.execute(
            "SELECT FROM tasks WHERE task_id = ANY ($1::text[]) ORDER BY task_id FOR UPDATE", [left, taken]
        )
        answer: dict[str, Any] = {"success": True}
        if left is not None:
            if arguments.save_current_state:
                updates = arguments.current_task_updates
                await _save(store, connection, left, updates, f"left for task {taken}", arguments.session_id)
            answer["previousTask"] = await _task(store, connection, left)
        _, time = await _save(
            store,
            connection,
            taken,
            Updates(status="in_progress"),
            "taken up" if left is None else f"taken up after task {left}",
            arguments.session_id,
        )
        answer["newTask"] = await _task(store, connection, taken)
    return {**answer, "timestamp": time.isoformat()}
