"""What PostgreSQL has of an agent's checkpoints, read past the runtime."""

from __future__ import annotations

import asyncpg


async def stored_checkpoints(postgres_url: str, agent_id: str) -> list[str]:
    """Their ids in the order they were stored, each version of each."""
    connection = await asyncpg.connect(postgres_url, server_settings={"search_path": "l02"})
    try:
        query = "SELECT checkpoint_id FROM state_checkpoints WHERE agent_id = $1 ORDER BY stored_at"
        return [row["checkpoint_id"] for row in await connection.fetch(query, agent_id)]
    finally:
        await connection.close()
