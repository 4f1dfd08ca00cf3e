"""The tools that go back in time: create_checkpoint and rollback_to."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Any

from l02.context.arguments import CreateCheckpoint, RollbackTo, ToCheckpoint, ToVersion
from l02.context.model import ToolRefused
from l02.context.store import Store, unknown_task

if TYPE_CHECKING:
    from l02.context.store import PgConnection


async def create_checkpoint(store: Store, arguments: CreateCheckpoint) -> dict[str, Any]:
    """Name the present version of the tasks."""
    named = {*arguments.include_tasks, *([arguments.task_id] if arguments.task_id is not None else [])}
    async with store.transaction() as connection:
        checkpoint_id, included, time = await _create(connection, arguments, sorted(named) or None)
    return {
        "success": True,
        "checkpointId": checkpoint_id,
        "label": arguments.label,
        "scope": "task" if named else "project",
        "includedTasks": included,
        "createdAt": time.isoformat(),
    }


async def _create(
    connection: PgConnection, arguments: CreateCheckpoint, wanted: list[str] | None
) -> tuple[str, list[str], datetime]:
    rows = await connection.fetch(
        "SELECT task_id FROM tasks WHERE version > 0 AND ($1::text[] IS NULL AND status <> 'archived' "
        "OR task_id = ANY ($1::text[])) ORDER BY task_id FOR UPDATE",
        wanted,
    )
    included = [row["task_id"] for row in rows]
    for task_id in wanted or []:
        if task_id not in included:
            raise unknown_task(task_id)
    checkpoint_id = uuid.uuid4().hex
    time = await connection.fetchval(
        "INSERT INTO checkpoints (checkpoint_id, label, description, type, session_id) VALUES ($1, $2, $3, $4, $5) "
        "RETURNING created_at",
        *(checkpoint_id, arguments.label, arguments.description, arguments.checkpoint_type, arguments.session_id),
    )
    await connection.execute(
        "INSERT INTO checkpoint_tasks (checkpoint_id, task_id, version) "
        "SELECT $1, task_id, version FROM tasks WHERE task_id = ANY ($2::text[])",
        *(checkpoint_id, included),
    )
    return checkpoint_id, included, time


async def rollback_to(store: Store, arguments: RollbackTo) -> dict[str, Any]:
    """A new version of the task with the content of an old one; what was before is kept by a checkpoint if wanted."""
    task_id, target = arguments.task_id, arguments.target
    async with store.transaction() as connection:
        present, _ = await store.lock(connection, task_id)
        restored = await store.context(connection, task_id, await _version(connection, task_id, target))
        answer: dict[str, Any] = {"success": True, "taskId": task_id, "rolledBackTo": _shown(target)}
        if arguments.create_backup:
            backup = CreateCheckpoint(
                label=f"before the rollback to {_words(target)}",
                checkpoint_type="recovery_point",
                session_id=arguments.session_id,
            )
            answer["backupCheckpointId"], _, _ = await _create(connection, backup, [task_id])
        time = await store.write(
            connection,
            task_id,
            present + 1,
            restored,
            summary=f"rolled back to {_words(target)}",
            session_id=arguments.session_id,
        )
    return {**answer, "restoredState": restored.as_json(), "timestamp": time.isoformat()}


async def _version(connection: PgConnection, task_id: str, target: ToVersion | ToCheckpoint) -> int:
    if isinstance(target, ToVersion):
        return target.version
    found = await connection.fetchval(
        "SELECT version FROM checkpoint_tasks WHERE checkpoint_id = $1 AND task_id = $2",
        *(target.checkpoint_id, task_id),
    )
    if found is None:
        raise ToolRefused(f"there is no checkpoint {target.checkpoint_id!r} that holds task {task_id!r}")
    return int(found)


def _shown(target: ToVersion | ToCheckpoint) -> dict[str, Any]:
    if isinstance(target, ToVersion):
        return {"type": "version", "identifier": target.version}
    return {"type": "checkpoint", "identifier": target.checkpoint_id}


def _words(target: ToVersion | ToCheckpoint) -> str:
    shown = _shown(target)
    return f"{shown['type']} {shown['identifier']}"
