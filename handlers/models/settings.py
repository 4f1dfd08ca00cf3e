"""Which models a node has: aliases, and behind each the endpoints that are tried in their order."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from ipaddress import IPv6Address
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from l02.domain.inference import Price
from l02.handlers.models.keys import Key, KeySource, KeyUnusable, read_key

Api = Literal["chat", "responses", "anthropic"]
Steps = tuple[str | int, ...]

_Seconds = Annotated[float, Meta(gt=0, le=86_400)]
_Tokens = Annotated[int, Meta(ge=1, le=100_000_000)]
_PerMinute = Annotated[int, Meta(ge=1, le=1_000_000_000)]
_Alias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}\Z")]
_HOST = r"([A-Za-z0-9][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])"
_Url = Annotated[str, Meta(pattern=rf"^https?://{_HOST}(:[0-9]+)?(/[!-~]*)?\Z", max_length=2048)]
# A write into Anthropic's cache costs a quarter more than other input.
_CACHE_WRITE = 1.25


class ModelSettingsError(Exception):
    """A key of the section `models` has a value that cannot be used; `path` leads to it from the section."""

    def __init__(self, path: Steps, message: str) -> None:
        super().__init__(message)
        self.path = path


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """The section `model_bridge`: what holds where an endpoint says nothing else."""

    request_timeout_seconds: float = 300
    connect_timeout_seconds: float = 10
    first_token_timeout_seconds: float = 120
    between_tokens_timeout_seconds: float = 60
    max_retries: int = 3
    max_concurrent: int = 64
    max_output: int = 4096
    max_waiting: int = 1000
    breaker_failures: int = 5
    breaker_seconds: float = 60


class Timeouts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Seconds: until a connection, the first token of a stream, the next one; `whole` from the call's beginning."""

    connect: _Seconds
    first_token: _Seconds
    between_tokens: _Seconds
    whole: _Seconds


class Endpoint(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model of one endpoint, as the settings file has it under an alias."""

    endpoint: _Url
    model: Annotated[str, Meta(min_length=1, max_length=512)]
    api: Api = "chat"
    key: KeySource | None = None
    price: Price | None = None
    context_window: _Tokens | None = None
    max_output: _Tokens
    max_tokens_key: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    max_concurrent: Annotated[int, Meta(ge=1, le=100_000)]
    requests_per_minute: _PerMinute | None = None
    tokens_per_minute: _PerMinute | None = None
    timeouts: Timeouts
    max_retries: Annotated[int, Meta(ge=0, le=100)]
    proxy: _Url | None = None
    parameters: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """Its host and port."""
        return self.endpoint.split("/", 3)[2]

    @property
    def url(self) -> str:
        """Without a slash at the end."""
        return self.endpoint.rstrip("/")


@dataclass(frozen=True, slots=True)
class Model:
    """An alias: its endpoints in their order, each with its key."""

    endpoints: tuple[tuple[Endpoint, Key | None], ...]


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """All models of a node by their aliases."""

    models: Mapping[str, Model] = field(default_factory=dict)
    defaults: Defaults = field(default_factory=Defaults)


def model_settings(section: Any, defaults: Defaults, beside: Path) -> ModelSettings:
    """The section `models` of the settings file, as YAML has it; files of keys are relative to `beside`.

    Raises ModelSettingsError.
    """
    if not isinstance(section, dict):
        raise ModelSettingsError((), "takes aliases of models, each with a list of endpoints")
    return ModelSettings({alias: _model(alias, value, defaults, beside) for alias, value in section.items()}, defaults)


def as_shown(settings: ModelSettings) -> dict[str, dict[str, Any]]:
    """What holds of each endpoint, as `alias[number]`, for people. Of a key it says where it is."""
    return {
        f"{alias}[{at}]": {key: each for key, each in msgspec.to_builtins(endpoint).items() if each is not None}
        for alias, model in settings.models.items()
        for at, (endpoint, _) in enumerate(model.endpoints)
    }


def _model(alias: Any, value: Any, defaults: Defaults, beside: Path) -> Model:
    try:
        msgspec.convert(alias, _Alias)
    except msgspec.ValidationError:
        raise ModelSettingsError(
            (alias,), "is no alias: letters, digits and . _ : / -, a letter or digit first, at most 128"
        ) from None
    if not isinstance(value, list) or not value:
        raise ModelSettingsError((alias,), "takes a list of endpoints, `- {endpoint: …, model: …}`")
    return Model(tuple(_endpoint((alias, at), each, defaults, beside) for at, each in enumerate(value)))


def _endpoint(path: Steps, value: Any, defaults: Defaults, beside: Path) -> tuple[Endpoint, Key | None]:
    refuse_unknown_keys(value, Endpoint, path)
    timeouts = {
        "connect": defaults.connect_timeout_seconds,
        "first_token": defaults.first_token_timeout_seconds,
        "between_tokens": defaults.between_tokens_timeout_seconds,
        "whole": defaults.request_timeout_seconds,
    }
    usual = {
        "max_output": defaults.max_output,
        "max_concurrent": defaults.max_concurrent,
        "max_retries": defaults.max_retries,
    }
    told = {key: each for key, each in value.items() if each is not None}
    told = {**usual, **told, "timeouts": {**timeouts, **told.get("timeouts", {})}}
    try:
        endpoint = msgspec.convert(told, Endpoint)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        raise ModelSettingsError((*path, *_steps(where.rstrip("`"))), f"cannot be used: {message}") from error
    for key, url in (("endpoint", endpoint.endpoint), ("proxy", endpoint.proxy)):
        if url is not None and not _is_usable(url):
            raise ModelSettingsError(
                (*path, key), "cannot be used: it takes a scheme, a host, perhaps a port and a path"
            )
    price = endpoint.price
    if price is not None and endpoint.api == "anthropic" and price.cache_write is None:
        endpoint = msgspec.structs.replace(
            endpoint, price=msgspec.structs.replace(price, cache_write=price.input * _CACHE_WRITE)
        )
    if endpoint.key is None:
        return endpoint, None
    try:
        return endpoint, read_key(endpoint.key, beside)
    except KeyUnusable as error:
        raise ModelSettingsError((*path, "key"), str(error)) from error


def _is_usable(url: str) -> bool:
    """Nothing but an address: no name and password, no query."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        if ":" in host:
            IPv6Address(host)
        return bool(host.encode("idna")) and port != 0 and not set("?#@") & set(url)
    except ValueError:
        return False


def _steps(where: str) -> Steps:
    """The path that msgspec writes as `.timeouts.connect`."""
    return tuple(step for step in where.split(".") if step and not step.startswith("["))


def refuse_unknown_keys(value: Any, of: type[Struct], path: Steps) -> None:
    """Raises ModelSettingsError for a key that is none of the Struct's, with the nearest one that is."""
    if not isinstance(value, dict):
        raise ModelSettingsError(path, "takes keys with values")
    fields = {one.name: one.type for one in msgspec.structs.fields(of)}
    for key, each in value.items():
        if key not in fields:
            near = get_close_matches(str(key)[:100], fields, 1, 0.0)
            raise ModelSettingsError((*path, key), f"is unknown; the nearest is {near[0]!r}")
        inner = _struct_in(fields[key])
        if inner is not None and each is not None:
            refuse_unknown_keys(each, inner, (*path, key))


def _struct_in(annotation: Any) -> type[Struct] | None:
    options = get_args(annotation) if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) else ()
    for each in options or (annotation,):
        if isinstance(each, type) and issubclass(each, Struct):
            return each
    return None
