"""What a node can be told, and where it is told it: options of `l02 up`, then the environment, then defaults."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, get_args

from l02.data_dir import default_data_dir
from l02.handlers.sessions import BridgeSettings
from l02.handlers.state.settings import Compression, HotStorage, StateSettings, Storage
from l02.node.session_server import SessionSettings

__all__ = ["NodeFailed", "Settings", "SettingsError"]


class SettingsError(Exception):
    """A setting has a value that cannot be used."""


class NodeFailed(Exception):
    """The node cannot start, or cannot go on; the message is one line that says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A node's settings. Where no URL is given, the node brings a server of its own in `data_dir`."""

    data_dir: Path
    nats_url: str | None = field(default=None, repr=False)
    postgres_url: str | None = field(default=None, repr=False)
    http_port: int = 0
    replicas: int = 1
    metrics_agent_labels: bool = True
    keep_files_days: int = 7
    state: StateSettings = field(default_factory=StateSettings)
    sessions: SessionSettings = field(default_factory=SessionSettings)

    @classmethod
    def from_environment(cls, *, data_dir: Path | None = None, http_port: int | None = None) -> Self:
        """L02_DATA_DIR, L02_NATS_URL, L02_POSTGRES_URL, L02_HTTP_PORT (0: any free one), L02_REPLICAS (of streams),
        L02_METRICS_AGENT_LABELS (0: metrics do not tell agents apart), L02_KEEP_FILES_DAYS (how long logs and
        workspaces of agents that have ended, and tool servers' logs, are kept; 0: until the next look, within an hour).

        Of agents' state: L02_CHECKPOINT_STORAGE (postgres, objects), L02_CHECKPOINT_COMPRESSION (gzip, zstd),
        L02_MAX_CHECKPOINT_SIZE_MB, L02_CHECKPOINT_RETENTION_DAYS, L02_CHECKPOINT_KEEP_LAST,
        L02_AUTO_CHECKPOINT_INTERVAL_SECONDS, L02_HOT_STORAGE (nats, redis), L02_REDIS_URL.

        Of the session bridge: L02_SESSION_SERVER (a command line, or `off`), L02_SESSION_ENVIRONMENT (names of the
        variables that it is given, with commas), L02_SESSION_HEARTBEAT_INTERVAL_SECONDS,
        L02_SESSION_HEARTBEAT_TIMEOUT_SECONDS, L02_SESSION_MAX_RETRIES, L02_SESSION_RECOVERY_CHECK (0 or 1).

        Raises SettingsError.
        """
        return cls(
            data_dir=(data_dir or default_data_dir()).absolute(),
            nats_url=os.environ.get("L02_NATS_URL") or None,
            postgres_url=os.environ.get("L02_POSTGRES_URL") or None,
            http_port=http_port if http_port is not None else _number("L02_HTTP_PORT", 0, 65535),
            replicas=_number("L02_REPLICAS", 1, 5),
            state=_state(),
            sessions=_sessions(),
            keep_files_days=_number("L02_KEEP_FILES_DAYS", 7, 36_500),
            metrics_agent_labels=_number("L02_METRICS_AGENT_LABELS", 1, 1) == 1,
        )


def _state() -> StateSettings:
    settings = StateSettings(
        storage=_choice("L02_CHECKPOINT_STORAGE", Storage, "postgres"),
        compression=_choice("L02_CHECKPOINT_COMPRESSION", Compression, "gzip"),
        max_size_mb=_number("L02_MAX_CHECKPOINT_SIZE_MB", 100, 4096, lowest=1),
        retention_days=_number("L02_CHECKPOINT_RETENTION_DAYS", 30, 36_500),
        keep_last=_number("L02_CHECKPOINT_KEEP_LAST", 10, 10_000, lowest=1),
        auto_checkpoint_interval_seconds=_number("L02_AUTO_CHECKPOINT_INTERVAL_SECONDS", 60, 86_400),
        hot_storage=_choice("L02_HOT_STORAGE", HotStorage, "nats"),
        redis_url=os.environ.get("L02_REDIS_URL") or None,
    )
    if settings.hot_storage == "redis" and settings.redis_url is None:
        raise SettingsError("L02_HOT_STORAGE is 'redis'; L02_REDIS_URL must say where it is (redis://host:6379)")
    return settings


def _sessions() -> SessionSettings:
    server = os.environ.get("L02_SESSION_SERVER") or None
    try:
        empty = server is not None and not shlex.split(server)
    except ValueError as error:
        raise SettingsError(f"L02_SESSION_SERVER is no command line: {error}") from error
    if empty:
        raise SettingsError("L02_SESSION_SERVER is blank; it takes a command line, or `off`")
    names = [name.strip() for name in os.environ.get("L02_SESSION_ENVIRONMENT", "").split(",") if name.strip()]
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise SettingsError(f"L02_SESSION_ENVIRONMENT names {missing[0]}, which is not set")
    return SessionSettings(
        server=server,
        environment={name: os.environ[name] for name in names},
        bridge=BridgeSettings(
            heartbeat_interval_seconds=_number("L02_SESSION_HEARTBEAT_INTERVAL_SECONDS", 30, 86_400, lowest=1),
            heartbeat_timeout_seconds=_number("L02_SESSION_HEARTBEAT_TIMEOUT_SECONDS", 5, 3600, lowest=1),
            max_retries=_number("L02_SESSION_MAX_RETRIES", 3, 100),
            enable_recovery_check=_number("L02_SESSION_RECOVERY_CHECK", 1, 1) == 1,
        ),
    )


def _number(name: str, default: int, highest: int, *, lowest: int = 0) -> int:
    text = os.environ.get(name)
    if not text:
        return default
    if not text.isdecimal() or not lowest <= int(text) <= highest:
        limits = f"from {lowest} to {highest}" if lowest else f"up to {highest}"
        raise SettingsError(f"{name} is {text!r}; it takes a number {limits}")
    return int(text)


def _choice(name: str, of: Any, default: Any) -> Any:
    """One of a Literal's words."""
    text = os.environ.get(name) or default
    if text not in get_args(of):
        raise SettingsError(f"{name} is {text!r}; it takes {' or '.join(get_args(of))}")
    return text
