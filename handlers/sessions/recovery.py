"""Which sessions the other side names as interrupted: asked once for all agents that a node takes up again."""

from __future__ import annotations

import asyncio
import math

from l02.handlers.sessions.orchestrator import LostSession, Orchestrator


class Recovery:
    """The newest answer to `check_recovery`; it serves all who began to wonder before it was asked for."""

    def __init__(self, orchestrator: Orchestrator) -> None:
        self._orchestrator = orchestrator
        self._turn = asyncio.Lock()
        self._lost: dict[str, LostSession] = {}
        self._asked_at = -math.inf

    async def find(self, session_id: str, since: float) -> LostSession | None:
        """The session, if it is named by an answer asked for after `since`, a time of the event loop.

        Raises CallFailed.
        """
        async with self._turn:
            if self._asked_at < since:
                now = asyncio.get_running_loop().time()
                self._lost = await self._orchestrator.lost_sessions()
                self._asked_at = now
        return self._lost.get(session_id)
