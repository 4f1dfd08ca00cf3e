"""A projection as one writes it by hand: fetch, decode, upsert in one transaction with the position, acknowledge."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import asyncpg
import nats
import uvloop
from nats.js.api import AckPolicy, ConsumerConfig

OPTIONS: dict[str, Any] = json.loads(sys.argv[1])
TABLES = """
DROP TABLE IF EXISTS peer_agents, peer_position;
CREATE TABLE peer_agents (id text PRIMARY KEY, last_type text, version bigint, updated_at text, data jsonb);
CREATE TABLE peer_position (name text PRIMARY KEY, position bigint);
INSERT INTO peer_position VALUES ('agents', 0);
"""
# One row for each agent of the batch: the last of its events in it stands for all.
UPSERT = """
INSERT INTO peer_agents
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::jsonb[])
ON CONFLICT (id) DO UPDATE SET last_type = excluded.last_type, version = excluded.version,
    updated_at = excluded.updated_at, data = excluded.data
"""


async def main() -> dict[str, float]:
    client = await nats.connect(OPTIONS["nats"])
    database = await asyncpg.connect(OPTIONS["postgres"])
    await database.execute(TABLES)
    subscription = await client.jetstream(timeout=30).pull_subscribe(
        "", "peer", stream="L02_EVENTS", config=ConsumerConfig(ack_policy=AckPolicy.ALL, max_ack_pending=-1)
    )
    done = 0
    began = time.perf_counter()
    while done < OPTIONS["events"]:
        messages = await subscription.fetch(500)
        rows: dict[str, tuple[Any, ...]] = {}
        for message in messages:
            event = json.loads(message.data)
            rows[event["subject"]] = (event["type"], event["version"], event["time"], json.dumps(event["data"]))
        position = messages[-1].metadata.sequence.stream
        async with database.transaction():
            await database.execute(UPSERT, list(rows), *map(list, zip(*rows.values(), strict=True)))
            await database.execute("UPDATE peer_position SET position = $1 WHERE name = 'agents'", position)
        await messages[-1].ack()
        done += len(messages)
    taken = time.perf_counter() - began
    await client.jetstream().delete_consumer("L02_EVENTS", "peer")
    await database.close()
    await client.close()
    return {"per_second": done / taken}


print(json.dumps(uvloop.run(main())))
