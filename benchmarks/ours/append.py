"""Appends, each of one event with the expected sequence: by many writers at once, or one at a time."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

from benchmarks.ours.contender import median_ms, opened, run
from l02.bus.log.event_store import EventStore
from l02.bus.log.repository import Repository
from l02.bus.wire.subjects import AggregateId
from l02.domain.agent.life.spawning import Spawn
from l02.domain.agent.work.executions import Execute, ExecutionFailed
from l02.domain.aggregates import AGENT
from l02.domain.kernel.message import Command, Metadata, Report
from tests.projections.history import specification

_NODE = "n1"


async def measure(options: dict[str, Any]) -> dict[str, float]:
    async with opened(options) as (_, store):
        if options["writers"] == 1:
            return {"p50_ms": await _one_at_a_time(store, options)}
        if options["decided"]:
            return {"per_second": await _decided(store, options)}
        return {"per_second": await _together(store, options)}


def _new_aggregate() -> tuple[AggregateId, str]:
    # Of a kind of its own: the payload is of the peers' size and no event of the runtime.
    aggregate = AggregateId("bench", uuid.uuid4().hex)
    return aggregate, f"l02.evt.bench.{aggregate.id}.happened"


async def _together(store: EventStore, options: dict[str, Any]) -> float:
    payload = b"x" * options["payload"]
    end = time.perf_counter() + options["seconds"]

    async def write() -> int:
        aggregate, subject = _new_aggregate()
        count = sequence = 0
        while time.perf_counter() < end:
            sequence = await store.append(aggregate, [(subject, payload)], sequence)
            count += 1
        return count

    began = time.perf_counter()
    counts = await asyncio.gather(*(write() for _ in range(options["writers"])))
    return sum(counts) / (time.perf_counter() - began)


async def _one_at_a_time(store: EventStore, options: dict[str, Any]) -> float:
    payload = b"x" * options["payload"]
    aggregate, subject = _new_aggregate()
    sequence = 0

    async def append() -> None:
        nonlocal sequence
        sequence = await store.append(aggregate, [(subject, payload)], sequence)

    return await median_ms([append] * options["runs"])


async def _decided(store: EventStore, options: dict[str, Any]) -> float:
    """The same through the repository: decide, encode, append and fold, each writer with an agent."""
    repository = Repository(AGENT, store, _NODE)
    end = time.perf_counter() + options["seconds"]

    async def write() -> int:
        agent_id = uuid.uuid4().hex

        async def decide(command: Command | Report, cause: str | None = None) -> int:
            metadata = Metadata(causation_id=cause or uuid.uuid4().hex, correlation_id=agent_id, actor="bench")
            return len((await repository.decide(agent_id, command, metadata)).events)

        count = await decide(Spawn(spec=specification()))
        while time.perf_counter() < end:
            execution_id = uuid.uuid4().hex
            count += await decide(Execute(input="x" * options["payload"]), execution_id)
            count += await decide(ExecutionFailed(execution_id=execution_id, code="E2002", message="bench"))
        return count

    began = time.perf_counter()
    counts = await asyncio.gather(*(write() for _ in range(options["writers"])))
    return sum(counts) / (time.perf_counter() - began)


if __name__ == "__main__":
    run(measure)
