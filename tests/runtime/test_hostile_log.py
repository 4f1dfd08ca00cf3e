"""Whatever stands in the log: the node runs on and restarts, others work, and a verification says what is wrong.

Every type of event is stored with hostile values in every field, by one who may publish below `l02.evt`, and so are
messages that are no events. All parts of a running node meet them, and all that read the log.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from l02.bus.connection.bus import Bus
from l02.bus.log.reader import last_sequence
from l02.bus.wire.codec import SetAside
from l02.bus.wire.subjects import AggregateId, event_subject
from l02.client.client import Client
from l02.domain.agent.life.spawning import SpawnRequested
from l02.domain.agent.saved.checkpoints import CheckpointRequested
from l02.domain.agent.work.executions import ExecutionStarted
from l02.domain.agent.work.signals import SignalReceived
from l02.domain.aggregates import AGGREGATES
from l02.domain.kernel.message import Event
from l02.domain.specification import AgentSpecification
from l02.node.running import Node, running_node
from l02.node.settings import Settings
from l02.projections.tables.definitions import TABLES
from l02.verify import Difference, verify
from tests.replay.conftest import program
from tests.runtime.answering import require_answers
from tests.runtime.conftest import fetch, worker
from tests.runtime.hostile_events import HOSTILE_MESSAGES, examples, hostile_data

_EXAMPLES = 3
_TIMES = ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59.999999Z", "now")


def _envelope(
    aggregate: AggregateId, event_type: str, schema_version: int, version: int, data: Any, time: str
) -> bytes:
    now = datetime.now(UTC).isoformat()
    return json.dumps(
        {
            "specversion": "1.0",
            "id": uuid.uuid4().hex,
            "source": "l02-agent-runtime",
            "type": event_type,
            "subject": str(aggregate),
            "time": now if time == "now" else time,
            "datacontenttype": "application/json",
            "version": version,
            "schemaversion": schema_version,
            "causationid": "c",
            "correlationid": "c",
            "actor": "\0",
            "data": data,
        }
    ).encode()


def _past(node_id: str) -> list[Event]:
    """What an agent has behind it that can be hit in many ways: it has work, a signal and a checkpoint under way."""
    spec = AgentSpecification(name="h", entrypoint="/no/such/file.py")
    return [
        SpawnRequested(spec=spec, requested_by="x", node_id=node_id, incarnation=1),
        ExecutionStarted(execution_id="x1", input=1, awaited_by="x1"),
        SignalReceived(name="signal", payload=None),
        CheckpointRequested(checkpoint_id="c1", checkpoint_type="manual", node_id="elsewhere"),
    ]


def _hostile_events(node_id: str) -> list[tuple[str, type[Event], Any]]:
    """Kinds of aggregates, types of their events, data of those."""
    return [
        (kind, event_type, data)
        for kind, aggregate in AGGREGATES.items()
        for event_type in aggregate.events
        for data in examples(hostile_data(event_type, (node_id, "x1", "c1")), _EXAMPLES)
    ]


async def _store_hostile_events(
    bus: Bus, node_id: str, events: list[tuple[str, type[Event], Any]], prefix: str
) -> None:
    """Each behind a past of its own, in one batch with that."""
    for count, (kind, event_type, data) in enumerate(events, start=1):
        aggregate = AggregateId(kind, f"{prefix}{count}")
        past = [
            (event.type, event.schema_version, msgspec.to_builtins(event))
            for event in (_past(node_id) if kind == "agent" else [])
        ]
        story = [*past, (event_type.type, event_type.schema_version, data)]
        time = _TIMES[count % len(_TIMES)]
        await bus.requests.publish_together(
            [
                (
                    event_subject(aggregate, name),
                    _envelope(aggregate, name, schema, number, fields, "now" if number <= len(past) else time),
                    {},
                )
                for number, (name, schema, fields) in enumerate(story, start=1)
            ],
            timeout=20,
        )


async def _store_messages(bus: Bus, node_id: str) -> list[int]:
    subjects = (
        "l02.evt.agent.h1.spawned",
        "l02.evt.agent.sound2.execution.completed",
        f"l02.evt.node.{node_id}.joined",
        "l02.evt.x",
        "l02.evt.agent.with space".replace(" ", "\u00e9"),
        "l02.evt.ghost.g1.spawned",
    )
    return [(await bus.publish(subject, raw)).seq for subject in subjects for raw in HOSTILE_MESSAGES]


async def _catch_up(node: Node) -> None:
    """Until all that is in the log has been read, and nothing has halted by it."""
    newest = await last_sequence(node.parts.bus)
    async with asyncio.timeout(60):
        for name in (*TABLES, "views"):
            await node.parts.progress.wait_for(name, newest)
    assert node.parts.progress.halted == {}


async def _works(node: Node, client: Client) -> None:
    """Others are served, nothing has halted, and all that reads the log gets through."""
    await require_answers(client, "sound", lambda: _catch_up(node))
    assert (await client.execute("sound", {"steps": [["tool", "add", {"a": 1, "b": 2}]]})).output == [3]
    fresh = f"new-{uuid.uuid4().hex[:8]}"
    await client.spawn(worker(), id=fresh)
    await client.terminate(fresh)
    assert await fetch(node, "/readyz") == (200, '{"status":"ready"}')
    assert (await fetch(node, "/metrics"))[0] == 200
    async with asyncio.timeout(60):
        after = None
        while page := await client.list(after=after):
            after = page[-1].id
        assert [view async for view in client.events("sound")]
        aside: list[SetAside] = []
        assert [recorded async for recorded in client.events(unreadable=aside.append)]
        assert len(aside) >= 6 * len(HOSTILE_MESSAGES)


async def test_every_consumer_meets_every_hostile_event(data_dir: Path) -> None:
    settings = Settings(data_dir=data_dir)
    async with running_node(settings) as node, Client.connect(nats_url=node.runtime["nats_url"]) as client:
        for agent_id in ("sound", "sound2"):
            await client.spawn(worker(), id=agent_id)
        bus, node_id = node.parts.bus, node.parts.node_id
        events, messages = _hostile_events(node_id), list[int]()
        prefixes = iter("hij")

        async def attack() -> None:
            await _store_hostile_events(bus, node_id, events, next(prefixes))
            messages.extend(await _store_messages(bus, node_id))
            await _catch_up(node)

        await require_answers(client, "sound", attack)
        assert (len(events), len(messages)) >= (100, 6 * len(HOSTILE_MESSAGES))
        await _works(node, client)
        assert (await client.get("sound2")).halted_at in messages

    async with running_node(settings) as node, Client.connect(nats_url=node.runtime["nats_url"]) as client:
        await _works(node, client)
        parked = {letter.origin async for letter in client.dead_letters() if letter.consumer == "projections"}
        assert parked >= set(messages)
        differences: list[Difference] = []
        await verify(node.parts.bus, node.runtime["postgres_url"], differences.append)
        assert {difference.sequence for difference in differences} >= set(messages)
        assert [difference for difference in differences if difference.place != "events"] == []
        for words in (["ps"], ["events"], ["dead", "list"], ["show", "sound2"], ["replay", "--to", str(messages[-1])]):
            code, printed, errors = await program(*words, "--data-dir", str(settings.data_dir))
            assert (code, "Traceback" in errors) == (0, False), (words, errors)
            assert printed
