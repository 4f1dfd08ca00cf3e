"""What a node can be told, and where it is told it: options of `l02 up`, then the environment, then defaults."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from handlers.state.settings import StateSettings
from l02.data_dir import default_data_dir

__all__ = ["NodeFailed", "Settings", "SettingsError"]


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
    state: StateSettings = StateSettings()

    @classmethod
    def from_environment(cls, *, data_dir: Path | None = None, http_port: int | None = None) -> Self:
        """L02_DATA_DIR, L02_NATS_URL, L02_POSTGRES_URL, L02_HTTP_PORT (0: any free one), L02_REPLICAS (of streams)."""
        return cls(
            data_dir=(data_dir or default_data_dir()).absolute(),
            nats_url=os.environ.get("L02_NATS_URL") or None,
            postgres_url=os.environ.get("L02_POSTGRES_URL") or None,
            http_port=http_port if http_port is not None else _number("L02_HTTP_PORT", 0, 65535),
            replicas=_number("L02_REPLICAS", 1, 5),
        )


def _number(name: str, default: int, highest: int) -> int:
    text = os.environ.get(name)
    if not text:
        return default
    if not text.isdecimal() or int(text) > highest:
        raise SettingsError(f"{name} is {text!r}; it takes a number up to {highest}")
    return int(text)
