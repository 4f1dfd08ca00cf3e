"""The streams and buckets, each with the reason for its settings. `ensure_streams` makes or updates them."""

from __future__ import annotations

from typing import Any

from l02.bus.connection.bus import Bus
from l02.bus.wire import subjects

EVENTS_STREAM = "L02_EVENTS"
COMMANDS_STREAM = "L02_COMMANDS"
TIMERS_STREAM = "L02_TIMERS"
OUTCOMES_STREAM = "L02_OUTCOMES"
TOKENS_STREAM = "L02_STREAM"
DEAD_STREAM = "L02_DEAD"
VIEWS_BUCKET = subjects.VIEWS_BUCKET
VIEWS_STREAM = f"KV_{VIEWS_BUCKET}"
SNAPSHOTS_BUCKET = subjects.SNAPSHOTS_BUCKET
SNAPSHOTS_STREAM = f"KV_{SNAPSHOTS_BUCKET}"
OBJECTS_BUCKET = "l02_objects"
CHECKPOINTS_BUCKET = "l02_checkpoints"
HOT_BUCKET = subjects.HOT_BUCKET
HOT_STREAM = f"KV_{HOT_BUCKET}"
LEASES_STREAM = f"KV_{subjects.LEASES_BUCKET}"
PARTITIONS_STREAM = f"KV_{subjects.PARTITIONS_BUCKET}"

_SECOND = 1_000_000_000
_DAY = 86_400 * _SECOND
_STREAM_EXISTS = 10058


class StreamError(Exception):
    """JetStream refused a stream's configuration; the message is the server's."""


def stream_configs(replicas: int) -> list[dict[str, Any]]:
    """What JetStream is asked for; times in nanoseconds."""
    common = {"retention": "limits", "storage": "file", "num_replicas": replicas, "discard": "old"}
    return [
        # The audit log: nothing is ever taken out of it, by anyone.
        common
        | {
            "name": EVENTS_STREAM,
            "subjects": [f"{subjects.EVENTS}.>"],
            "allow_atomic": True,
            "allow_direct": True,
            "deny_delete": True,
            "deny_purge": True,
        },
        # Commands are what events are made of; a week is kept for looking back. A retry of a command is told from a
        # new one by the aggregate itself, for ever, and from another command with the same id too; the server's own
        # window could do neither, so it is as short as the server takes it. Whatever headers a client gives its
        # command, it takes no other's away: no roll-ups, no schedules, no lifetimes, no batches to leave open. A server
        # that was away during a migration is sent what was stored meanwhile under the subjects it was published on, and
        # transforms them by the settings it then finds; without these its copy would hold commands that nobody reads.
        common
        | {
            "name": COMMANDS_STREAM,
            "subjects": [f"{subjects.COMMANDS}.>"],
            "subject_transform": {"src": f"{subjects.RESTORED}.>", "dest": f"{subjects.COMMANDS}.>"},
            "max_age": 7 * _DAY,
            "duplicate_window": _SECOND // 10,
            "deny_delete": True,
            "deny_purge": True,
            "allow_direct": True,
        },
        # Timers wait as scheduled messages (exempt from the age limit) and become what is due when they fire. A stream
        # with schedules allows roll-ups, so they have one of their own.
        common
        | {
            "name": TIMERS_STREAM,
            "subjects": [f"{subjects.TIMERS}.>", f"{subjects.DUE}.>"],
            "max_age": 7 * _DAY,
            "duplicate_window": _SECOND // 10,
            "allow_msg_schedules": True,
            "allow_msg_ttl": True,
            "allow_direct": True,
        },
        common
        | {
            "name": OUTCOMES_STREAM,
            "subjects": [f"{subjects.OUTCOMES}.>"],
            "allow_atomic": True,
            "max_age": 3600 * _SECOND,
            "duplicate_window": 1 * _SECOND,
            "allow_direct": True,
        },
        # Streamed text is for eyes, not for the record: memory, ten minutes.
        common
        | {
            "name": TOKENS_STREAM,
            "subjects": [f"{subjects.STREAM}.>"],
            "storage": "memory",
            "max_age": 600 * _SECOND,
            "max_bytes": 256 * 1024 * 1024,
            "duplicate_window": 120 * _SECOND,
            "allow_direct": True,
        },
        common
        | {
            "name": DEAD_STREAM,
            "subjects": [f"{subjects.DEAD}.>"],
            "allow_direct": True,
            "max_age": 30 * _DAY,
        },
        # A lease that is not renewed is taken out by the server itself; so this bucket is made here, with that allowed.
        common
        | {
            "name": LEASES_STREAM,
            "subjects": [f"$KV.{subjects.LEASES_BUCKET}.>"],
            "max_msgs_per_subject": 1,
            "max_age": 60 * _SECOND,
            "allow_msg_ttl": True,
            "allow_rollup_hdrs": True,
            "deny_delete": True,
            "allow_direct": True,
            "discard": "new",
        },
    ]


def _bucket_config(replicas: int) -> dict[str, Any]:
    """What key-value and object buckets have in common, as nats-py makes them.

    Its own way to it gives up if a cluster chooses a leader just then.
    """
    return {
        "retention": "limits",
        "storage": "file",
        "num_replicas": replicas,
        "discard": "new",
        "allow_rollup_hdrs": True,
        "allow_direct": True,
    }


def stream_config(name: str, replicas: int) -> dict[str, Any]:
    """What JetStream is asked for one stream."""
    [config] = [config for config in stream_configs(replicas) if config["name"] == name]
    return config


async def ensure_streams(bus: Bus, replicas: int = 1, *, but: str = "") -> None:
    """Make what is missing, `but` one, and bring the settings of what exists up to date; safe to run at every start."""
    for config in stream_configs(replicas):
        if config["name"] != but:
            await ensure_stream(bus, config)
    for bucket in (VIEWS_BUCKET, SNAPSHOTS_BUCKET, subjects.PARTITIONS_BUCKET):
        key_value = {
            "name": f"KV_{bucket}",
            "subjects": [f"$KV.{bucket}.>"],
            "max_msgs_per_subject": 1,
            "duplicate_window": 120 * _SECOND,
            "allow_msg_ttl": True,
            "deny_delete": True,
        }
        await _make_if_missing(bus, _bucket_config(replicas) | key_value)
    await ensure_object_bucket(bus, OBJECTS_BUCKET, replicas)


async def ensure_object_bucket(bus: Bus, bucket: str, replicas: int) -> None:
    """Make the object store if it is not there. Raises StreamError."""
    objects = {"name": f"OBJ_{bucket}", "subjects": [f"$O.{bucket}.C.>", f"$O.{bucket}.M.>"]}
    await _make_if_missing(bus, _bucket_config(replicas) | objects)


async def _make_if_missing(bus: Bus, config: dict[str, Any]) -> None:
    answer = await bus.api(f"STREAM.CREATE.{config['name']}", config)
    if answer.get("error", {}).get("err_code") != _STREAM_EXISTS:
        _check(answer, config)


async def ensure_hot_bucket(bus: Bus) -> None:
    """Make the bucket of agents' newest states. It is a copy: in memory, one replica, the oldest make room."""
    config = {
        "name": HOT_STREAM,
        "subjects": [f"$KV.{HOT_BUCKET}.>"],
        "retention": "limits",
        "storage": "memory",
        "num_replicas": 1,
        "discard": "old",
        "max_msgs_per_subject": 1,
        "max_bytes": 256 * 1024 * 1024,
        "max_age": _DAY,
        "allow_rollup_hdrs": True,
        "allow_direct": True,
    }
    await ensure_stream(bus, config)


async def ensure_stream(bus: Bus, config: dict[str, Any]) -> None:
    """Make one, or bring its settings up to date. Raises StreamError."""
    answer = await bus.api(f"STREAM.CREATE.{config['name']}", config)
    if answer.get("error", {}).get("err_code") == _STREAM_EXISTS:
        answer = await bus.api(f"STREAM.UPDATE.{config['name']}", config)
    _check(answer, config)


def _check(answer: dict[str, Any], config: dict[str, Any]) -> None:
    if "error" in answer:
        raise StreamError(f"stream {config['name']}: {answer['error'].get('description')}")
