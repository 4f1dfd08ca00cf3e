"""Every setting of a node, once: its key in the settings file, its variable, what it takes, and what it is for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

from l02.domain.spending.limits import LimitAction
from l02.handlers.models.settings import Defaults
from l02.handlers.resources.settings import ResourceSettings
from l02.handlers.sessions import BridgeSettings
from l02.handlers.state.settings import Compression, HotStorage, StateSettings, Storage

Kind = Literal["text", "number", "truth", "words", "parts"]
_MOST_DIGITS = 9
_PART = re.compile(r"0?\.[0-9]{1,9}")
_STATE, _BRIDGE, _RESOURCES, _MODELS = StateSettings(), BridgeSettings(), ResourceSettings(), Defaults()


class SettingsError(Exception):
    """A setting has a value that cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting; `lowest` and `highest` are of numbers, `choices` of texts. A secret is shown nowhere."""

    section: str
    key: str
    variable: str
    kind: Kind = "text"
    default: Any = None
    lowest: int = 0
    highest: int = 0
    choices: tuple[str, ...] = ()
    secret: bool = False
    meaning: str

    @property
    def name(self) -> str:
        """As `section.key`."""
        return f"{self.section}.{self.key}"

    @property
    def takes(self) -> str:
        """What values it has, in words."""
        if self.kind == "number":
            limits = f"from {self.lowest} to {self.highest}" if self.lowest else f"up to {self.highest}"
            return f"a number {limits}"
        if self.kind == "truth":
            return "true or false (in a variable 1 or 0)"
        if self.kind == "words":
            return "a list of names (in a variable with commas)"
        if self.kind == "parts":
            return "a list of numbers above 0 and below 1, ascending (in a variable with commas)"
        return " or ".join(self.choices) or "text"

    def value(self, text: str, place: str) -> Any:
        """The value that a text means; `place` is where it stands. Raises SettingsError."""
        if self.kind == "number":
            fits = text.isdecimal() and len(text) <= _MOST_DIGITS and self.lowest <= int(text) <= self.highest
            value: Any = int(text) if fits else None
        elif self.kind == "truth":
            fits, value = text in ("0", "1"), text == "1"
        elif self.kind == "words":
            fits, value = True, tuple(word.strip() for word in text.split(",") if word.strip())
        elif self.kind == "parts":
            value = tuple(float(part) for part in text.split(",") if _PART.fullmatch(part.strip()))
            fits = len(value) == text.count(",") + 1 and all(low < high for low, high in pairwise((0.0, *value, 1.0)))
        else:
            fits, value = "\0" not in text and (not self.choices or text in self.choices), text
        if not fits:
            shown = "no text without zero bytes" if self.secret else repr(text[:100])
            raise SettingsError(f"{place} is {shown}; it takes {self.takes}")
        return value


def _node(key: str, meaning: str, **more: Any) -> Setting:
    return Setting(section="node", key=key, variable=f"L02_{key.upper()}", meaning=meaning, **more)


def _state(key: str, variable: str, meaning: str, **more: Any) -> Setting:
    return Setting(section="state_manager", key=key, variable=f"L02_{variable}", meaning=meaning, **more)


def _bridge(key: str, meaning: str, variable: str | None = None, **more: Any) -> Setting:
    name = f"L02_SESSION_{variable or key.upper()}"
    return Setting(section="session_bridge", key=key, variable=name, meaning=meaning, **more)


def _resource(key: str, meaning: str, **more: Any) -> Setting:
    return Setting(section="resource_manager", key=key, variable=f"L02_{key.upper()}", meaning=meaning, **more)


def _models(key: str, highest: int, meaning: str) -> Setting:
    least = 0 if key == "max_retries" else 1
    return Setting(
        section="model_bridge",
        key=key,
        variable=f"L02_MODEL_{key.upper()}",
        meaning=meaning,
        **_number(getattr(_MODELS, key), highest, least),
    )


def _number(default: float, highest: int, lowest: int = 0) -> dict[str, Any]:
    return {"kind": "number", "default": int(default), "lowest": lowest, "highest": highest}


def _choice(default: str, of: Any) -> dict[str, Any]:
    return {"default": default, "choices": get_args(of)}


SETTINGS: tuple[Setting, ...] = (
    _node("data_dir", "where the node keeps everything; in a file, relative to the file's folder"),
    _node("nats_url", "the NATS server; without one the node brings its own", secret=True),
    _node("postgres_url", "the PostgreSQL server; without one the node brings its own", secret=True),
    _node("http_port", "of health and metrics; 0: any free one", **_number(0, 65_535)),
    _node("replicas", "copies of each stream on a cluster", **_number(1, 5)),
    _node("metrics_agent_labels", "whether metrics tell agents apart", kind="truth", default=True),
    _node("keep_files_days", "days that files of agents that have ended are kept", **_number(7, 36_500)),
    _state(
        "checkpoint_storage", "CHECKPOINT_STORAGE", "where checkpoints are kept", **_choice(_STATE.storage, Storage)
    ),
    _state(
        "checkpoint_compression",
        "CHECKPOINT_COMPRESSION",
        "how new ones are compressed; either is read",
        **_choice(_STATE.compression, Compression),
    ),
    _state(
        "max_checkpoint_size_mb",
        "MAX_CHECKPOINT_SIZE_MB",
        "MiB before compression; above it E2031",
        **_number(_STATE.max_size_mb, 4096, 1),
    ),
    _state(
        "retention_days",
        "CHECKPOINT_RETENTION_DAYS",
        "older checkpoints go",
        **_number(_STATE.retention_days, 36_500),
    ),
    _state(
        "keep_last", "CHECKPOINT_KEEP_LAST", "but an agent's last ones stay", **_number(_STATE.keep_last, 10_000, 1)
    ),
    _state(
        "auto_checkpoint_interval_seconds",
        "AUTO_CHECKPOINT_INTERVAL_SECONDS",
        "between checkpoints of an agent that changes; 0: none at intervals",
        **_number(_STATE.auto_checkpoint_interval_seconds, 86_400),
    ),
    _state(
        "hot_storage",
        "HOT_STORAGE",
        "where the newest state of running agents is",
        **_choice(_STATE.hot_storage, HotStorage),
    ),
    _state("redis_url", "REDIS_URL", "where Redis is, for `hot_storage: redis`", secret=True),
    _bridge("server", "a command line, or `off`; without one the node starts its own"),
    _bridge("environment", "the variables of the node that the server is given", kind="words", default=()),
    _bridge(
        "heartbeat_interval_seconds", "between heartbeats", **_number(_BRIDGE.heartbeat_interval_seconds, 86_400, 1)
    ),
    _bridge(
        "heartbeat_timeout_seconds", "until one counts as failed", **_number(_BRIDGE.heartbeat_timeout_seconds, 3600, 1)
    ),
    _bridge("max_retries", "of a call that fails, before the next heartbeat", **_number(_BRIDGE.max_retries, 100)),
    _bridge(
        "enable_recovery_check",
        "whether interrupted sessions are asked for at the start",
        "RECOVERY_CHECK",
        kind="truth",
        default=_BRIDGE.enable_recovery_check,
    ),
    _resource(
        "tokens_per_hour",
        "what an agent's models may use, if its specification does not say",
        **_number(_RESOURCES.tokens_per_hour, 999_999_999),
    ),
    _resource(
        "token_budget_action",
        "what is done at an agent's limit, if its specification does not say",
        default=_RESOURCES.token_budget_action.value,
        choices=tuple(action.value for action in LimitAction),
    ),
    _resource(
        "warn_at",
        "at these parts of a limit somebody is warned, if the agent's specification does not say",
        kind="parts",
        default=_RESOURCES.warn_at,
    ),
    _resource(
        "usage_report_interval_seconds",
        "between two looks at whether what an agent uses has moved and is to be recorded",
        **_number(_RESOURCES.usage_report_interval_seconds, 86_400, 1),
    ),
    _models("request_timeout_seconds", 86_400, "for a call, from its beginning to its answer (`timeouts.whole`)"),
    _models("connect_timeout_seconds", 3600, "until an endpoint is connected (`timeouts.connect`)"),
    _models("first_token_timeout_seconds", 86_400, "until a stream's first token (`timeouts.first_token`)"),
    _models("between_tokens_timeout_seconds", 86_400, "until its next one (`timeouts.between_tokens`)"),
    _models("max_retries", 100, "at one endpoint, of what may pass (`max_retries`)"),
    _models("max_concurrent", 100_000, "calls of a model at once (`max_concurrent`)"),
    _models("max_output", 100_000_000, "tokens of an answer (`max_output`)"),
    _models("max_waiting", 1_000_000, "calls that wait for their turn at a model; more are E2103"),
    _models("breaker_failures", 1000, "in a row, after which an endpoint is left alone"),
    _models("breaker_seconds", 86_400, "that it is left alone"),
)
