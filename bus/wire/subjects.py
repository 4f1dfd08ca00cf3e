"""Every NATS subject of the runtime is built and taken apart here and nowhere else.

The filter of an aggregate matters most: concurrent writers are only kept apart when each of them expects the last
sequence over the identical filter (measured on a replicated stream: with differing filters both writers won 297 of
300 races).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

EVENTS = "l02.evt"
COMMANDS = "l02.cmd"
TIMERS = "l02.timer"
DUE = "l02.due"
RESTORED = "l02.restored"
OUTCOMES = "l02.out"
API = "l02.api"
STREAM = "l02.stream"
DEAD = "l02.dead"
RETRY = "l02.retry"
VIEWS_BUCKET = "l02_views"
SNAPSHOTS_BUCKET = "l02_snapshots"
HOT_BUCKET = "l02_hot"
LEASES_BUCKET = "l02_leases"
PARTITIONS_BUCKET = "l02_partitions"


class AggregateId(NamedTuple):
    """The kind of an aggregate and its id: agent, a1."""

    kind: str
    id: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.id}"


class CommandAddress(NamedTuple):
    """Whom a command goes to, and what it asks. `is_due` if it came of a timer, which may send what others may not."""

    aggregate: AggregateId
    verb: str
    is_due: bool = False


def event_subject(aggregate: AggregateId, event_type: str) -> str:
    """`agent.spawn.requested` of agent a1 → `l02.evt.agent.a1.spawn.requested`."""
    rest = event_type.removeprefix(f"{aggregate.kind}.")
    return f"{EVENTS}.{aggregate.kind}.{aggregate.id}.{rest}"


def event_type_of(subject: str) -> str:
    """`l02.evt.agent.a1.spawn.requested` → `agent.spawn.requested`; empty if it is not the subject of an event."""
    tokens = subject.removeprefix(f"{EVENTS}.").split(".", 2)
    return f"{tokens[0]}.{tokens[2]}" if len(tokens) == 3 and subject.startswith(f"{EVENTS}.") else ""


def aggregate_of(subject: str) -> AggregateId | None:
    """The aggregate whose filter takes in the subject of an event, of whatever type."""
    tokens = subject.removeprefix(f"{EVENTS}.").split(".", 2)
    return AggregateId(tokens[0], tokens[1]) if len(tokens) == 3 and subject.startswith(f"{EVENTS}.") else None


def aggregate_filter(aggregate: AggregateId) -> str:
    """All events of one aggregate; the one filter over which its writers state their expectation."""
    return f"{EVENTS}.{aggregate.kind}.{aggregate.id}.>"


def events_filter(kind: str | None = None, event_type: str | None = None) -> str:
    """Events of all aggregates of a kind, of one type, or all."""
    if event_type is not None:
        event_kind, _, rest = event_type.partition(".")
        return f"{EVENTS}.{event_kind}.*.{rest}"
    return f"{EVENTS}.{kind}.>" if kind else f"{EVENTS}.>"


def command_subject(aggregate: AggregateId, verb: str) -> str:
    """Where a command is published."""
    return f"{COMMANDS}.{aggregate.kind}.{aggregate.id}.{verb}"


@lru_cache(maxsize=1024)
def parse_command_subject(subject: str) -> CommandAddress | None:
    """The address of a command or of a timer's, or None if the subject is not `l02.cmd|due.<aggregate>.<id>.<verb>`."""
    parts = subject.split(".")
    root = ".".join(parts[:2])
    if len(parts) != 5 or root not in (COMMANDS, DUE):
        return None
    return CommandAddress(AggregateId(parts[2], parts[3]), parts[4], is_due=root == DUE)


def due_subject(aggregate: AggregateId, verb: str) -> str:
    """Where a timer's command appears when it is due; only the runtime publishes there."""
    return f"{DUE}.{aggregate.kind}.{aggregate.id}.{verb}"


def timer_subject(aggregate: AggregateId, name: str) -> str:
    """Where a timer waits; a new message on the same subject replaces it."""
    return f"{TIMERS}.{aggregate.kind}.{aggregate.id}.{name}"


def outcome_subject(command_id: str) -> str:
    """Where the outcome of a command appears, once."""
    return f"{OUTCOMES}.{command_id}"


def owner_subject(command_id: str) -> str:
    """Where it stands which command an id belongs to."""
    return f"{OUTCOMES}.{command_id}.owner"


def refusal_subject(command_id: str, sequence: int | str) -> str:
    """Where the refusal of a command is kept whose id belongs to another; `sequence` is its own in the stream."""
    return f"{OUTCOMES}.{command_id}.{sequence}"


def stream_subject(agent_id: str, execution_id: str) -> str:
    """Where an execution's streamed output appears."""
    return f"{STREAM}.{agent_id}.{execution_id}"


def snapshot_subject(aggregate: AggregateId) -> str:
    """Where an aggregate's snapshot is kept: the key `<kind>.<id>` of a bucket."""
    return f"$KV.{SNAPSHOTS_BUCKET}.{aggregate.kind}.{aggregate.id}"


def usage_subject(agent_id: str) -> str:
    """Where it stands what an agent's process takes now: the key `usage.<id>` among the live views."""
    return f"$KV.{VIEWS_BUCKET}.usage.{agent_id}"


def hot_subject(agent_id: str) -> str:
    """Where an agent's newest state is kept in memory: the key `<id>` of a bucket."""
    return f"$KV.{HOT_BUCKET}.{agent_id}"


def lease_subject(node_id: str) -> str:
    """Where a node says that it is alive: its key of a bucket."""
    return f"$KV.{LEASES_BUCKET}.{node_id}"


def lease_filter() -> str:
    """The leases of all nodes."""
    return lease_subject("*")


def partition_subject(name: str) -> str:
    """Where it stands who works on a partition, and how far it is: its key of a bucket."""
    return f"$KV.{PARTITIONS_BUCKET}.{name}"


def dead_subject(origin: str) -> str:
    """Where messages of a consumer are kept that cannot be handled."""
    return f"{DEAD}.{origin}"


def retry_subject(consumer: str) -> str:
    """Where the handler behind a consumer is asked to handle an event once more."""
    return f"{RETRY}.{consumer}"
