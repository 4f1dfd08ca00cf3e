"""The tool check_recovery: who was at work when the lights went out.

A session is at work as long as the last snapshot it sent left its task in progress. One that a living process of the
server has heard of is not lost: it is what came through those that are gone, and was not heard of since, that may be.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from l02.context.arguments import CheckRecovery
from l02.context.model import TaskContext, ToolRefused
from l02.context.store import Store

if TYPE_CHECKING:
    from l02.context.store import PgConnection

_HISTORY = 20
_LOST = """
    SELECT sessions.session_id, sessions.task_id, sessions.last_activity, versions.context
    FROM sessions
    JOIN tasks USING (task_id)
    JOIN versions USING (task_id, version)
    WHERE
        sessions.at_work AND sessions.server_id <> $1 AND NOT is_present(sessions.server_id)
        AND (sessions.recovered_at IS NULL OR sessions.recovered_at < sessions.last_activity)
    ORDER BY sessions.last_activity
"""
_context = msgspec.json.Decoder(TaskContext)


async def check_recovery(store: Store, arguments: CheckRecovery) -> dict[str, Any]:
    """Mark a session as recovered if one is named, and list those that are not."""
    async with store.transaction() as connection:
        if arguments.mark_recovered is not None:
            await _mark(store, connection, arguments.mark_recovered)
        sessions = []
        for row in await connection.fetch(_LOST, store.server_id):
            session = {
                "sessionId": row["session_id"],
                "taskId": row["task_id"],
                "taskName": row["task_id"],
                "recoveryType": "interrupted",
                "lastActivity": row["last_activity"].isoformat(),
                "resumePrompt": _context.decode(row["context"]).resume_prompt,
                # Whatever this server has answered `success` to is in the database.
                "unsavedChanges": False,
            }
            if arguments.include_history:
                session["toolHistory"] = await _history(connection, row["session_id"])
            sessions.append(session)
    return {
        "needsRecovery": bool(sessions),
        "sessions": sessions,
        "summary": f"{len(sessions)} sessions were at work and have not been heard of since",
        "timestamp": datetime.now(UTC).isoformat(),
    }


async def _mark(store: Store, connection: PgConnection, session_id: str) -> None:
    marked = await connection.fetchval(
        "UPDATE sessions SET recovered_at = clock_timestamp(), server_id = $2 WHERE session_id = $1 "
        "RETURNING session_id",
        *(session_id, store.server_id),
    )
    if marked is None:
        raise ToolRefused(f"session {session_id!r} is not known")


async def _history(connection: PgConnection, session_id: str) -> list[dict[str, Any]]:
    rows = await connection.fetch(
        "SELECT task_id, version, summary, created_at FROM versions WHERE session_id = $1 "
        "ORDER BY created_at DESC LIMIT $2",
        *(session_id, _HISTORY),
    )
    return [
        {
            "taskId": row["task_id"],
            "version": row["version"],
            "changeSummary": row["summary"],
            "timestamp": row["created_at"].isoformat(),
        }
        for row in rows
    ]
