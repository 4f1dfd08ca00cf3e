"""Following the live views, through restarts of the server, with only the newest state of each key."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import VIEWS_BUCKET
from l02.bus.jetstream.pull import pull
from l02.client.discovery import reaching
from l02.domain.identifiers import require_id
from l02.projections.folds.agents import AgentView

_STREAM = f"KV_{VIEWS_BUCKET}"
_SUBJECT = f"$KV.{VIEWS_BUCKET}"
_BATCH = 500
_decoder = msgspec.json.Decoder(AgentView)


async def watch_agents(bus: Bus, agent_id: str | None = None) -> AsyncGenerator[AgentView, None]:
    """The present state of one agent or of all, then each new state, for ever."""
    key = f"agent.{require_id(agent_id, 'id') if agent_id is not None else '*'}"
    seen = 0

    async def config() -> dict[str, Any]:
        # From the newest of each key the first time, and after an interruption from where it was.
        begin: dict[str, Any] = {"deliver_policy": "last_per_subject"}
        if seen:
            begin = {"deliver_policy": "by_start_sequence", "opt_start_seq": seen + 1}
        return begin | {
            "ack_policy": "none",
            "filter_subject": f"{_SUBJECT}.{key}",
            "inactive_threshold": 60_000_000_000,
            "mem_storage": True,
            "num_replicas": 1,
        }

    with reaching():
        async with pull(bus, _STREAM, config) as source:
            while True:
                for message in await source.next_batch(_BATCH):
                    sequence = message.metadata.sequence.stream
                    if sequence <= seen:
                        continue
                    seen = sequence
                    if not (message.headers or {}).get("KV-Operation"):
                        yield _decoder.decode(message.data)
