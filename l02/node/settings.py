"""What a node can be told, and where: options of `l02 up`, then variables, then the settings file, then defaults."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from l02.data_dir import default_data_dir
from l02.domain.spending.limits import LimitAction
from l02.handlers.models.settings import Defaults, ModelSettings
from l02.handlers.resources.settings import ResourceSettings
from l02.handlers.sessions import BridgeSettings
from l02.handlers.state.settings import StateSettings
from l02.node.models_file import read_models
from l02.node.session_server import SessionSettings
from l02.node.settings_file import read_settings_file
from l02.node.settings_table import SETTINGS, Setting, SettingsError

CONFIG_VARIABLE = "L02_CONFIG"


class NodeFailed(Exception):
    """The node cannot start, or cannot go on; the message is one line that says what to do."""


class Effective(NamedTuple):
    """A setting as it is: its value, who said it, and where it stands."""

    setting: Setting
    value: Any
    origin: Literal["default", "file", "variable", "option"]
    place: str


def settings_file(config: Path | None = None) -> Path | None:
    """The settings file: the one named by an option, else by L02_CONFIG."""
    named = os.environ.get(CONFIG_VARIABLE)
    return config or (_at_home(named, CONFIG_VARIABLE) if named else None)


def effective(
    *, config: Path | None = None, data_dir: Path | None = None, http_port: int | None = None
) -> dict[str, Effective]:
    """Every setting by `section.key`. Raises SettingsError."""
    file = settings_file(config)
    in_file = read_settings_file(file) if file else {}
    options = {"node.data_dir": data_dir, "node.http_port": http_port}
    found: dict[str, Effective] = {}
    for setting in SETTINGS:
        option, said = options.get(setting.name), os.environ.get(setting.variable)
        if option is not None:
            one = Effective(setting, option, "option", f"--{setting.key.replace('_', '-')}")
        elif said:
            one = Effective(setting, setting.value(said, setting.variable), "variable", setting.variable)
        elif setting.name in in_file:
            text, place = in_file[setting.name]
            one = Effective(setting, setting.value(text, place), "file", place)
        else:
            one = Effective(setting, setting.default, "default", setting.variable)
        found[setting.name] = one
    where = found["node.data_dir"]
    if where.origin == "default":
        path = default_data_dir()
    else:
        path = where.value if where.origin == "option" else _at_home(where.value, where.place)
    beside = file.absolute().parent if file and where.origin == "file" else Path.cwd()
    return found | {"node.data_dir": where._replace(value=beside / path)}


def effective_models(found: dict[str, Effective], *, config: Path | None = None) -> ModelSettings:
    """The models of the settings file, where the other settings are these. Raises SettingsError."""
    told = {name.partition(".")[2]: one.value for name, one in found.items() if name.startswith("model_bridge.")}
    defaults, file = Defaults(**told), settings_file(config)
    return read_models(file, defaults) if file else ModelSettings(defaults=defaults)


def _at_home(text: str, place: str) -> Path:
    """A path that may begin with `~`."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise SettingsError(
            f"{place} is {text[:100]!r}, and nobody of this name has a home; write the path in full"
        ) from error


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
    resources: ResourceSettings = field(default_factory=ResourceSettings)
    models: ModelSettings = field(default_factory=ModelSettings)

    @classmethod
    def from_environment(
        cls, *, config: Path | None = None, data_dir: Path | None = None, http_port: int | None = None
    ) -> Self:
        """What options, variables and the settings file say; `settings_table` lists them all. Raises SettingsError."""
        found = effective(config=config, data_dir=data_dir, http_port=http_port)
        return cls.of(found, models=effective_models(found, config=config))

    @classmethod
    def of(cls, found: dict[str, Effective], models: ModelSettings) -> Self:
        """Settings that fit together. Raises SettingsError."""
        own = {name.partition(".")[2]: one.value for name, one in found.items() if name.startswith("node.")}
        return cls(
            **own,
            state=_state(found),
            sessions=_sessions(found),
            resources=resource_settings(found),
            models=models,
        )


def resource_settings(found: dict[str, Effective]) -> ResourceSettings:
    """What is said about limits; read again on SIGHUP."""
    return ResourceSettings(
        tokens_per_hour=found["resource_manager.tokens_per_hour"].value,
        token_budget_action=LimitAction(found["resource_manager.token_budget_action"].value),
        warn_at=found["resource_manager.warn_at"].value,
        usage_report_interval_seconds=found["resource_manager.usage_report_interval_seconds"].value,
    )


def _state(found: dict[str, Effective]) -> StateSettings:
    told = {name.partition(".")[2]: one for name, one in found.items() if name.startswith("state_manager.")}
    hot, redis = told["hot_storage"], told["redis_url"]
    if hot.value == "redis" and redis.value is None:
        raise SettingsError(f"{hot.place} is 'redis'; {redis.place} must say where it is (redis://host:6379)")
    return StateSettings(
        storage=told["checkpoint_storage"].value,
        compression=told["checkpoint_compression"].value,
        max_size_mb=told["max_checkpoint_size_mb"].value,
        retention_days=told["retention_days"].value,
        keep_last=told["keep_last"].value,
        auto_checkpoint_interval_seconds=told["auto_checkpoint_interval_seconds"].value,
        hot_storage=hot.value,
        redis_url=redis.value,
    )


def _sessions(found: dict[str, Effective]) -> SessionSettings:
    told = {name.partition(".")[2]: one for name, one in found.items() if name.startswith("session_bridge.")}
    server, names = told.pop("server"), told.pop("environment")
    try:
        empty = server.value is not None and not shlex.split(server.value)
    except ValueError as error:
        raise SettingsError(f"{server.place} is no command line: {error}") from error
    if empty:
        raise SettingsError(f"{server.place} is blank; it takes a command line, or `off`")
    missing = [name for name in names.value if name not in os.environ]
    if missing:
        raise SettingsError(f"{names.place} names {missing[0]}, which is not set")
    return SessionSettings(
        server=server.value,
        environment={name: os.environ[name] for name in names.value},
        bridge=BridgeSettings(**{key: one.value for key, one in told.items()}),
    )
