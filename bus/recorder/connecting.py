"""The environment variables that every persistence module on NATS has: where, and how patient."""

from __future__ import annotations

from eventsourcing.utils import Environment

from l02.bus.recorder.worker import Worker

NATS_URL = "NATS_URL"
NATS_TIMEOUT = "NATS_TIMEOUT"


def open_worker(env: Environment) -> Worker:
    """A connection as the environment says. Raises OperationalError if no server answers, OSError."""
    url = env.get(NATS_URL) or "nats://127.0.0.1:4222"
    return Worker(url, name=env.name or "eventsourcing", timeout=patience(env))


def patience(env: Environment) -> float:
    """For how many seconds an operation waits for a server that is away. Raises OSError."""
    return float(positive_int(env, NATS_TIMEOUT, 10))


def positive_int(env: Environment, key: str, default: int) -> int:
    """A setting that is a whole number above 0. Raises OSError."""
    value = env.get(key) or str(default)
    if not (value.isascii() and value.isdigit() and int(value) > 0):
        raise OSError(f"{key} must be a whole number above 0, not {value!r}")
    return int(value)
