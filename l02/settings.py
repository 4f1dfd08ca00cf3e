"""What a node can be told, and where it is told it: options of `l02 up`, then the environment, then defaults."""

from __future__ import annotations

import math
import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from handlers.sessions import BridgeSettings
from handlers.state.settings import StateSettings
from l02.data_dir import default_data_dir
from l02.session_server import SessionSettings

__all__ = ["NodeFailed", "Settings", "SettingsError"]

_LONGEST_SECONDS = 86_400


class SettingsError(Exception):
    """A setting has a value that cannot be used."""


class NodeFailed(Exception):
    """The node cannot start, or cannot go on; the message is one line that says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A node's settings. Where no URL is given, the node brings a server of its own in `data_dir`."""

    data_dir: Path
    nats_url: str | None = None
    postgres_url: str | None = None
    http_port: int = 0
    replicas: int = 1
    state: StateSettings = field(default_factory=StateSettings)
    sessions: SessionSettings = field(default_factory=SessionSettings)

    @classmethod
    def from_environment(cls, *, data_dir: Path | None = None, http_port: int | None = None) -> Self:
        """L02_DATA_DIR, L02_NATS_URL, L02_POSTGRES_URL, L02_HTTP_PORT (0: any free one), L02_REPLICAS (of streams).

        Of the session bridge, see `_sessions`.
        """
        return cls(
            data_dir=(data_dir or default_data_dir()).absolute(),
            nats_url=os.environ.get("L02_NATS_URL") or None,
            postgres_url=os.environ.get("L02_POSTGRES_URL") or None,
            http_port=http_port if http_port is not None else _number("L02_HTTP_PORT", 0, 65535),
            replicas=_number("L02_REPLICAS", 1, 5),
            sessions=_sessions(),
        )


def _sessions() -> SessionSettings:
    """L02_SESSION_SERVER (a command line, or `off`), L02_SESSION_ENVIRONMENT (names of variables that it is given,
    with commas), L02_SESSION_HEARTBEAT_INTERVAL_SECONDS, L02_SESSION_HEARTBEAT_TIMEOUT_SECONDS,
    L02_SESSION_MAX_RETRIES, L02_SESSION_RECOVERY_CHECK (0 or 1).
    """
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
    default = BridgeSettings()
    return SessionSettings(
        server=server,
        environment={name: os.environ[name] for name in names},
        bridge=BridgeSettings(
            heartbeat_interval_seconds=_seconds(
                "L02_SESSION_HEARTBEAT_INTERVAL_SECONDS", default.heartbeat_interval_seconds
            ),
            heartbeat_timeout_seconds=_seconds(
                "L02_SESSION_HEARTBEAT_TIMEOUT_SECONDS", default.heartbeat_timeout_seconds
            ),
            max_retries=_number("L02_SESSION_MAX_RETRIES", default.max_retries, 100),
            enable_recovery_check=_number("L02_SESSION_RECOVERY_CHECK", int(default.enable_recovery_check), 1) == 1,
        ),
    )


def _seconds(name: str, default: float) -> float:
    text = os.environ.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= _LONGEST_SECONDS:
        raise SettingsError(f"{name} is {text!r}; it takes seconds, more than 0 and up to {_LONGEST_SECONDS}")
    return value


def _number(name: str, default: int, highest: int) -> int:
    text = os.environ.get(name)
    if not text:
        return default
    if not text.isdecimal() or int(text) > highest:
        raise SettingsError(f"{name} is {text!r}; it takes a number up to {highest}")
    return int(text)
