"""nats-py as its documentation has it: one publish for each event, its acknowledgement awaited."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from typing import Any

import nats
import uvloop

OPTIONS: dict[str, Any] = json.loads(sys.argv[1])
STREAM = "PEER"


async def main() -> dict[str, float]:
    client = await nats.connect(OPTIONS["nats"])
    stream = client.jetstream(timeout=30)
    await stream.add_stream(name=STREAM, subjects=["peer.>"])
    payload = b"x" * OPTIONS["payload"]
    try:
        return await (one_at_a_time if OPTIONS["writers"] == 1 else together)(stream, payload)
    finally:
        await stream.delete_stream(STREAM)
        await client.close()


async def together(stream: Any, payload: bytes) -> dict[str, float]:
    """As many writers, each with an aggregate of its own and the sequence it expects."""
    end = time.perf_counter() + OPTIONS["seconds"]

    async def write(subject: str) -> int:
        count = sequence = 0
        while time.perf_counter() < end:
            headers = {"Nats-Expected-Last-Subject-Sequence": str(sequence)}
            sequence = (await stream.publish(subject, payload, headers=headers)).seq
            count += 1
        return count

    began = time.perf_counter()
    counts = await asyncio.gather(*(write(f"peer.{number}") for number in range(OPTIONS["writers"])))
    return {"per_second": sum(counts) / (time.perf_counter() - began)}


async def one_at_a_time(stream: Any, payload: bytes) -> dict[str, float]:
    """Bare: without an expectation."""
    taken = []
    for _ in range(OPTIONS["runs"]):
        began = time.perf_counter()
        await stream.publish("peer.lone", payload)
        taken.append(time.perf_counter() - began)
    return {"p50_ms": statistics.median(taken) * 1000}


print(json.dumps(uvloop.run(main())))
