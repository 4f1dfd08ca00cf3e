"""What is compared: each row of the table with the contenders, their options, and what we want to reach."""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchmarks.contest import Servers, contest, ours, peer, servers
from benchmarks.measure import Row

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
    threads = [peer(f"eventsourcing, {n} threads", "eventsourcing_append", threads=n) for n in (16, 32, 44)]
    decided = replace(ours("append", decided=True), name="decided")
    together = await contest(
        [ours("append"), decided, peer("nats-py", "nats_append"), *threads],
        options | {"writers": 256, "seconds": sizes.seconds},
        sizes.rounds,
    )
    rates = {name: figures["per_second"] for name, figures in together.items()}
    best = max((contender.name for contender in threads), key=lambda name: rates[name])
    alone = await contest(
        [
            ours("append"),
            peer("nats-py, bare", "nats_append"),
            peer("eventsourcing", "eventsourcing_append", threads=1),
        ],
        options | {"writers": 1, "runs": sizes.lone_appends},
        2 * sizes.rounds - 1,
    )
    peers = {name: rates[name] for name in ("nats-py", best)}
    return [
        Row("append, 256 writers", "events/s", rates["l02"], peers, ">= 15,000, >= 4x the best"),
        Row("  through the repository: decided, encoded, folded", "events/s", rates["decided"], {}, ""),
        _row("one append at a time, p50", "ms", alone, "p50_ms", "<= 1.15x of nats-py"),
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
        sizes.rounds,
    )
    name = f"table rebuilt from {filled['events']:,.0f} events"
    return [_row(name, "events/s", figures, "per_second", ">= 40,000, >= 1.7x, >= 30x")]


async def loads(on: Servers, sizes: Sizes) -> list[Row]:
    """Loads by a process that knows nothing of the aggregate yet."""
    options = {"nats": on.nats, "events": 10_000, "agents": 1_000, "long_events": sizes.long_events}
    figures = await contest([ours("load")], options, sizes.rounds)
    title = f"{sizes.long_events:,} events of {sizes.long_events // 5:,} commands"
    return [
        _row("cold load of 20 events, p50", "ms", figures, "short_ms", "<= 3"),
        _row(f"cold load of {title}, p50", "ms", figures, "long_ms", "<= 6"),
        _row("  the same without its snapshot", "ms", figures, "long_without_ms", ""),
    ]


async def growth(events: int, agents: int) -> list[Row]:
    """The same at a small and at a large stream, ten events to an agent; one run each, filling takes minutes."""
    small = await _grown(10_000, 1_000)
    large = await _grown(events, agents)
    title = f"with {events:,} events of {agents:,} agents"
    figures = {"l02": large, "with 10,000 of 1,000": small}
    return [
        _row(f"append to new agents, 256 writers, {title}", "events/s", figures, "to_new_per_second", "within 1.5x"),
        _row(f"append to old agents, 256 writers, {title}", "events/s", figures, "to_old_per_second", "within 1.5x"),
        _row(f"one append to an old agent, p50, {title}", "ms", figures, "append_ms", "within 1.5x"),
        _row(f"cold load of 10 events, p50, {title}", "ms", figures, "scattered_ms", "within 1.5x"),
    ]


async def _grown(events: int, agents: int) -> dict[str, float]:
    async with servers() as on:
        return await ours("load").measure({"nats": on.nats, "events": events, "agents": agents, "long_events": 0})


def _row(name: str, unit: str, figures: dict[str, dict[str, float]], key: str, target: str) -> Row:
    values = {contender: taken[key] for contender, taken in figures.items()}
    return Row(name, unit, values.pop("l02"), values, target)
