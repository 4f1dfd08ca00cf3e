"""What is compared: each row of the table with the contenders, their options, and what we want to reach."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.contest import Contender, Servers, contest, ours, peer, servers
from benchmarks.measure import Row
from benchmarks.node import AGENT_FILE, running_node
from benchmarks.peer_venv import PeerVenv

__all__ = ["FULL", "QUICK", "Sizes", "appends", "commands", "growth", "loads", "projections"]

# About what an event of an agent has in its envelope.
_PAYLOAD_BYTES = 500


@dataclass(frozen=True)
class Sizes:
    """How much is measured. `seconds` is one run of one contender, `rounds` how many of them the median is of."""

    rounds: int
    seconds: float
    lone_appends: int
    events: int
    peer_events: int
    long_events: int


FULL = Sizes(rounds=3, seconds=3.0, lone_appends=400, events=100_000, peer_events=4_000, long_events=100_000)
QUICK = Sizes(rounds=1, seconds=0.5, lone_appends=30, events=5_000, peer_events=200, long_events=5_000)


async def appends(on: Servers, sizes: Sizes) -> list[Row]:
    """One event with the sequence its aggregate is expected to have, on disk when it is acknowledged."""
    options = {"nats": on.nats, "postgres": on.postgres, "payload": _PAYLOAD_BYTES, "decided": False}
    together = options | {"writers": 256, "seconds": sizes.seconds}
    figures = await contest(
        [
            ours("append"),
            _renamed(ours("append", decided=True), "decided"),
            peer("nats-py", "nats_append"),
            *(peer(f"eventsourcing {count}", "eventsourcing_append", threads=count) for count in (8, 16, 32)),
        ],
        together,
        key="per_second",
        rounds=sizes.rounds,
    )
    library = {name: value for name, value in figures.items() if name.startswith("eventsourcing")}
    best = max(library, key=lambda name: library[name])
    peers = {"nats-py": figures["nats-py"], f"{best} threads": library[best]}
    alone = await contest(
        [
            ours("append"),
            peer("nats-py, bare", "nats_append"),
            peer("eventsourcing", "eventsourcing_append", threads=1),
        ],
        options | {"writers": 1, "runs": sizes.lone_appends},
        key="p50_ms",
        rounds=2 * sizes.rounds - 1,
    )
    return [
        Row("append, 256 writers", "events/s", figures["l02"], peers, ">= 15,000, >= 4x the best"),
        Row("  decided, encoded and folded too (Repository)", "events/s", figures["decided"], peers, ""),
        Row("one append at a time, p50", "ms", alone.pop("l02"), alone, "<= 1.15x of nats-py"),
    ]


async def commands(sizes: Sizes, venv: PeerVenv) -> list[Row]:
    """64 commands in flight against one durable step; each system has the machine to itself."""
    options: dict[str, Any] = {"in_flight": 64, "seconds": sizes.seconds}
    signals, executions, peers = [], [], {}
    with running_node() as (data_dir, directory):
        agent = directory / "bench.py"
        agent.write_text(AGENT_FILE)
        contender = ours("commands", data_dir=str(data_dir), agent=str(agent), agents=16)
        for _ in range(sizes.rounds):
            figures = await contender.measure(options)
            signals.append(figures["signal"])
            executions.append(figures["execute"])
    async with servers() as on:
        contenders = [peer("LangGraph", "langgraph_step"), peer("DBOS", "dbos_step")]
        peers |= await contest(contenders, options | {"postgres": on.postgres}, key="per_second", rounds=sizes.rounds)
    if venv.has_restate:
        contender = peer("Restate", "restate_step", restate_server=str(Path(venv.restate_server).absolute()))
        peers |= await contest([contender], options, key="per_second", rounds=sizes.rounds)
    return [
        Row("command to outcome, 64 in flight (signal)", "commands/s", median(signals), peers, ">= 1,500"),
        Row("  a whole execution in the agent's sandbox (execute)", "commands/s", median(executions), peers, ""),
    ]


async def projections(on: Servers, sizes: Sizes) -> list[Row]:
    """The table of agents from event 1, exactly once. The slow peer projects fewer events, at the same rate."""
    options = {"nats": on.nats, "postgres": on.postgres, "fill": False, "payload": _PAYLOAD_BYTES}
    filled = await ours("project", fill=True, events=sizes.events, agents=1000).measure(options)
    figures = await contest(
        [
            ours("project"),
            peer("nats-py + asyncpg", "nats_projection", events=filled["events"]),
            peer("eventsourcing", "eventsourcing_projection", events=sizes.peer_events),
        ],
        options,
        key="per_second",
        rounds=sizes.rounds,
    )
    name = f"table rebuilt from {filled['events']:,.0f} events"
    return [Row(name, "events/s", figures.pop("l02"), figures, ">= 40,000, >= 1.7x, >= 30x")]


async def loads(on: Servers, sizes: Sizes) -> list[Row]:
    """Loads by a process that knows nothing of the aggregate yet."""
    options = {"nats": on.nats, "events": 10_000, "agents": 1_000, "long_events": sizes.long_events}
    taken = [await ours("load").measure(options) for _ in range(sizes.rounds)]
    long_load = median(figures["load_long_ms"] for figures in taken)
    return [
        Row("cold load of 20 events, p50", "ms", median(figures["load_short_ms"] for figures in taken), {}, "<= 3"),
        Row(f"cold load of {sizes.long_events:,} events, p50", "ms", long_load, {}, "<= 6"),
    ]


async def growth(events: int, agents: int) -> list[Row]:
    """The same at a small and at a large stream, one run each: filling takes minutes."""
    small, large = [await _grown(*size) for size in ((10_000, 1_000), (events, agents))]
    name = f"at {events:,} events of {agents:,} agents"
    itself = "at 10,000"
    return [
        Row(f"append, 256 writers, {name}", "events/s", large["appends_per_second"],
            {itself: small["appends_per_second"]}, "within 1.5x"),
        Row(f"cold load of 20 events, {name}", "ms", large["load_short_ms"], {itself: small["load_short_ms"]},
            "within 1.5x"),
    ]  # fmt: skip


async def _grown(events: int, agents: int) -> dict[str, float]:
    async with servers() as on:
        options = {"nats": on.nats, "events": events, "agents": agents, "long_events": 0}
        return await ours("load").measure(options)


def _renamed(contender: Contender, name: str) -> Contender:
    return Contender(name, contender.command, contender.options)
