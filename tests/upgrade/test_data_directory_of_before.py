"""A data directory of the version before, whose node was killed, is started as it is. Nothing is lost or done twice.

How it was made, and what is in it: README.md beside this.
"""

from __future__ import annotations

import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import asyncpg
import pytest_asyncio

from l02.bus.commands.migration import BEFORE_STREAM
from l02.bus.commands.outcomes import Outcome
from l02.bus.connection.bus import Bus, connect
from l02.bus.connection.leader import message_from_leader, standing_of
from l02.bus.connection.streams import COMMANDS_STREAM, TIMERS_STREAM, stream_config
from l02.bus.log.reader import last_sequence
from l02.bus.wire.subjects import AggregateId, timer_subject
from l02.client.client import Client
from l02.domain.agent.life.spawning import AgentSpawned
from l02.domain.agent.saved.checkpoints import CheckpointExpired
from l02.domain.agent.work.executions import ExecutionCompleted
from l02.domain.agent.work.signals import SignalReceived
from l02.domain.aggregates import AGGREGATES
from l02.node.running import running_node
from l02.node.session_server import SessionSettings
from l02.node.settings import Settings
from l02.verify import verify
from l02.verify.difference import Difference
from tests.bus.toy import outcome, outcomes
from tests.bus.toy import until as until_fact
from tests.runtime.conftest import history, until

LATE = (
    *("late-execute", "last-execute", "late-signal", "late-resume", "late-checkpoint", "late-restore", "late-spawn"),
    *("new-execute", "late-terminate", "to-gone", "to-nobody", "unknown-verb", "no-address"),
)


@pytest_asyncio.fixture
async def settings(tmp_path: Path, database: str) -> Settings:
    """The directory unpacked, and a database as its PostgreSQL was."""
    data_dir = tmp_path / "data"
    with tarfile.open(Path(__file__).with_name("before.tar.xz")) as archive:
        archive.extractall(data_dir, filter="data")
    for path in (data_dir, data_dir / "nats"):
        path.chmod(0o700)
    connection = await asyncpg.connect(database)
    await connection.execute((data_dir / "postgres.sql").read_text())
    await connection.close()
    return Settings(data_dir=data_dir, postgres_url=database, sessions=SessionSettings(server="off"))


async def test_it_goes_on_where_it_was(settings: Settings) -> None:
    async with (
        running_node(settings) as node,
        Client.connect(nats_url=node.runtime["nats_url"]) as client,
        connect(node.runtime["nats_url"], name="test", aggregates=AGGREGATES) as bus,
    ):
        said = {command_id: await outcome(bus, command_id) for command_id in (*LATE, "count-2")}
        await _commands_were_handled_once(client, said)
        await _timers_have_fired_or_wait(bus, client)
        await _agents_are_as_they_were(client)
        for command_id in said:
            assert len(await outcomes(bus, command_id)) == 1, command_id
        info = await bus.api(f"STREAM.INFO.{COMMANDS_STREAM}", {})
        wanted = stream_config(COMMANDS_STREAM, 1)
        assert {name: info["config"][name] for name in wanted if wanted[name]} == {
            name: value for name, value in wanted.items() if value
        }
        assert (await last_sequence(bus, BEFORE_STREAM)) < info["state"]["first_seq"]
        differences: list[Difference] = []
        assert settings.postgres_url is not None
        summary = await verify(bus, settings.postgres_url, differences.append)
        assert (differences, summary.aggregates) == ([], 10)


async def _commands_were_handled_once(client: Client, said: dict[str, Outcome]) -> None:
    outputs = {name: dict(one.result or {}).get("output") for name, one in said.items() if one.ok}
    assert {name: output for name, output in outputs.items() if output is not None} == {
        "late-execute": 4,
        "count-2": 2,  # stored before and again, with the same id
        "last-execute": 5,
        "new-execute": 1,
    }
    assert {name: one.error and one.error.code for name, one in said.items() if not one.ok} == {
        "to-gone": "E2112",
        "to-nobody": "E2111",
        "unknown-verb": "E2110",
        "no-address": "E2110",
    }
    parked = [letter.headers["Nats-Msg-Id"] async for letter in client.dead_letters()]
    assert sorted(parked) == ["no-address", "unknown-verb"]
    done = {agent_id: await completed(client, agent_id) for agent_id in ("counter", "new", "asleep", "back")}
    assert done == {
        "counter": {"count-1": 1, "count-2": 2, "count-3": 3, "late-execute": 4, "last-execute": 5},
        "new": {"new-execute": 1},
        "asleep": {"asleep-1": 1},
        "back": {"back-1": 1, "back-2": 2},
    }


async def _agents_are_as_they_were(client: Client) -> None:
    """Those that were running run again, the one whose process was killed too, and know what they knew."""
    await until(client, "waiting", lambda recorded: isinstance(recorded.event, ExecutionCompleted))
    assert await completed(client, "waiting") == {"wait-1": {"by": "hand"}}
    signals = [event.name for event in await history(client, "waiting") if isinstance(event, SignalReceived)]
    assert signals == ["go", "later"]
    counts = {"counter": 6, "waiting": 2, "asleep": 2, "back": 2, "crashed": 1, "new": 2}
    for agent_id, count in counts.items():
        assert (await client.execute(agent_id, "count")).output == count
    states = {view.id: view.state.value for view in await client.list()}
    assert states == dict.fromkeys(counts, "running") | dict.fromkeys(("gone", "ended", "leaving"), "terminated")
    kept = {agent_id: await client.checkpoints(agent_id) for agent_id in states}
    assert {agent_id: [view.checkpoint_id for view in views] for agent_id, views in kept.items() if views} == {
        "counter": ["late-checkpoint", "kept"],
        "asleep": ["before-sleep"],
        "back": ["first"],
        "gone": ["of-gone"],
    }


async def _timers_have_fired_or_wait(bus: Bus, client: Client) -> None:
    await until(client, "ended", lambda recorded: isinstance(recorded.event, CheckpointExpired))
    assert Counter(type(event) for event in await history(client, "ended"))[CheckpointExpired] == 1
    # Its first process, that of the second node, and the one that the timer has begun: none was begun twice.
    assert Counter(type(event) for event in await history(client, "crashed"))[AgentSpawned] == 3
    waits = await message_from_leader(bus, TIMERS_STREAM, last_on=timer_subject(AggregateId("agent", "gone"), "*"))
    assert waits is not None and waits.headers["Nats-Schedule"] == "@at 2126-11-04T11:15:48Z"
    assert waits.headers["Nats-Schedule-Target"] == "l02.due.agent.gone.expire-checkpoints"

    async def one_waits() -> bool:
        return (await standing_of(bus, TIMERS_STREAM, "l02.timer.>")).messages == 1

    await until_fact(one_waits)  # what has fired goes a moment later


async def completed(client: Client, agent_id: str) -> dict[str, Any]:
    """The output of each piece of work; none has ended twice."""
    ended = [event for event in await history(client, agent_id) if isinstance(event, ExecutionCompleted)]
    outputs = {event.execution_id: event.output for event in ended}
    assert len(outputs) == len(ended)
    return outputs
