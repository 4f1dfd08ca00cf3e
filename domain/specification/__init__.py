"""What a team writes to describe an agent. It arrives with `spawn` and is kept, whole, in the agent's first event."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from l02.domain.errors import ErrorCode, Failure
from l02.domain.identifiers import require_id
from l02.domain.specification.secrecy import HidesEnvironment
from l02.domain.spending.limits import (
    DEFAULT_THRESHOLDS,
    DEFAULT_TOKENS_PER_HOUR,
    OWN_LIMITS,
    LimitAction,
    LimitName,
    Thresholds,
    Tokens,
    require_ascending,
)
from l02.domain.spending.money import Usd, in_millionths, require_millionths
from l02.domain.values import require_shallow

MAX_SPECIFICATION_BYTES = 256 * 1024
DEFAULT_DISK = "1Gi"
_CPU = re.compile(r"(?:[1-9][0-9]{0,3}|[1-9][0-9]{0,6}m)")
_MEMORY = re.compile(r"([1-9][0-9]{0,6})(Mi|Gi)")
_MEMORY_UNITS = {"Mi": 1024**2, "Gi": 1024**3}
_MAX_PATH_BYTES = 4095  # Linux: PATH_MAX without the NUL at its end
_MAX_NAME_BYTES = 255  # Linux: NAME_MAX

Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Seconds = Annotated[float, Meta(gt=0, le=86_400 * 365)]
Name = Annotated[str, Meta(min_length=1, max_length=128)]
Command = Annotated[tuple[str, ...], Meta(min_length=1, max_length=1000)]


class TrustLevel(StrEnum):
    """How much the agent's code is trusted; it chooses the sandbox."""

    TRUSTED = "trusted"
    STANDARD = "standard"
    UNTRUSTED = "untrusted"
    CONFIDENTIAL = "confidential"


class RuntimeClass(StrEnum):
    """The kinds of sandbox."""

    PROCESS = "process"
    LANDLOCK = "landlock"
    GVISOR = "gvisor"
    KATA = "kata"
    KATA_CC = "kata-cc"

    @classmethod
    def of(cls, trust_level: TrustLevel) -> RuntimeClass:
        """The class a trust level asks for; a node that cannot give it refuses (E2040), it never takes a weaker one."""
        return _CLASS_OF_TRUST[trust_level]


_CLASS_OF_TRUST = {
    TrustLevel.TRUSTED: RuntimeClass.PROCESS,
    TrustLevel.STANDARD: RuntimeClass.LANDLOCK,
    TrustLevel.UNTRUSTED: RuntimeClass.GVISOR,
    TrustLevel.CONFIDENTIAL: RuntimeClass.KATA_CC,
}


class _Strict(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class ResourceLimits(_Strict, frozen=True, kw_only=True):
    """`cpu` in cores ("2") or thousandths ("500m"); `memory` as "512Mi" or "2Gi"; `processes` in a `command` agent.

    `disk` is what the workspace may take, as `memory` is said; 1Gi if it is left out.

    `execution_seconds` bounds one piece of work, from its acceptance to its end, with all that it waits for (E2006),
    to the second; also while its agent is suspended or waits to be restarted.

    `tokens_per_hour`, `tokens_per_day` and `cost_per_day` (USD) bound what its models use: null is no limit, 0 allows
    nothing. At a limit `action` is taken, and at the parts `warn_at` of it somebody is warned. What is left out is as
    the node's settings say (`resource_manager`), and then stands here.
    """

    cpu: str = "2"
    memory: str = "2Gi"
    tokens_per_hour: Annotated[int, Meta(ge=0)] | UnsetType | None = UNSET
    tokens_per_day: Tokens | UnsetType | None = UNSET
    cost_per_day: Usd | UnsetType | None = UNSET
    action: LimitAction | UnsetType = UNSET
    warn_at: Thresholds | UnsetType = UNSET
    processes: Count = 64
    execution_seconds: Seconds | UnsetType = UNSET
    disk: str | UnsetType = UNSET

    @property
    def disk_bytes(self) -> int:
        """What the workspace may take."""
        return memory_bytes(DEFAULT_DISK if self.disk is UNSET else self.disk, "$.disk")

    def with_defaults(self, tokens_per_hour: int | None, action: LimitAction, warn_at: Thresholds) -> ResourceLimits:
        """With these where nothing else is said. A daily limit that is said bounds the hourly one that is not."""
        daily = self.tokens_per_day
        if isinstance(daily, int) and (tokens_per_hour is None or daily < tokens_per_hour):
            tokens_per_hour = daily
        return replace(
            self,
            tokens_per_hour=tokens_per_hour if self.tokens_per_hour is UNSET else self.tokens_per_hour,
            action=action if self.action is UNSET else self.action,
            warn_at=warn_at if self.warn_at is UNSET else self.warn_at,
        )

    @property
    def amounts(self) -> dict[LimitName, int]:
        """The limits there are on what its models use, in tokens and in millionths of a dollar."""
        known = self.with_defaults(DEFAULT_TOKENS_PER_HOUR, LimitAction.SUSPEND, DEFAULT_THRESHOLDS)
        return {
            limit: in_millionths(value) if limit.is_money else value
            for limit in OWN_LIMITS
            if (value := getattr(known, limit)) not in (None, UNSET)
        }


class FileAccess(_Strict, frozen=True, kw_only=True):
    """Absolute paths of the host that the sandbox opens beside the agent's own workspace."""

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()


class ToolServer(HidesEnvironment, _Strict, frozen=True, kw_only=True):
    """An MCP server over stdio. `idempotent` names its tools that may be called again after a crash.

    `allow` names those that the agent may call; all, if it is left out. One in `ask` waits for a person's yes.

    `start` says when it is started: `lazy`, the default, when it is first wanted; `eager` with the agent's process, so
    that the first call does not wait for it, and then it runs as long as the process does.
    """

    command: Command
    idempotent: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    network: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    start: Literal["lazy", "eager"] | UnsetType = UNSET
    allow: tuple[str, ...] | UnsetType = UNSET
    ask: tuple[str, ...] | UnsetType = UNSET

    def allows(self, tool: str) -> bool:
        """Whether the agent may call it, if only after a person's yes."""
        return self.allow is UNSET or tool in self.allow

    def asks(self, tool: str) -> bool:
        """Whether a person must say yes first."""
        return self.ask is not UNSET and tool in self.ask


class ModelAgent(_Strict, frozen=True, kw_only=True):
    """The built-in agent, which needs no code: the model `alias` answers, and calls the specification's tools.

    `prompt` is what the model is told first of all. It is asked at most `max_rounds` times for each execution, each
    time for at most `max_tokens`; its output is a text, or what `output_schema` (JSON Schema) describes.
    """

    alias: Name
    prompt: str = ""
    max_rounds: Annotated[int, Meta(ge=1, le=1000)] = 50
    max_tokens: Annotated[int, Meta(ge=1, le=10_000_000)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    output_schema: dict[str, Any] | None = None


class ExecutorLimits(_Strict, frozen=True, kw_only=True):
    """The agent executor's settings for this agent."""

    max_concurrent_tools: Count = 10
    tool_timeout_seconds: Seconds = 300.0
    context_window_tokens: Annotated[int, Meta(ge=1)] = 128_000
    enable_streaming: bool = True
    retry_on_tool_failure: bool = True
    max_tool_retries: Annotated[int, Meta(ge=0, le=100)] = 3
    max_queued_executions: Count = 100


class LifecycleLimits(_Strict, frozen=True, kw_only=True):
    """The lifecycle manager's settings for this agent. An agent that is never to be suspended for idleness has 0.

    A restart counts towards `max_restart_count`, in a row without a completed execution between, unless the process was
    ended together with work that has failed, such as by E2006, E2115 or E2116, or because its node was lost.
    """

    spawn_timeout_seconds: Seconds = 60.0
    graceful_shutdown_seconds: Seconds = 30.0
    max_restart_count: Annotated[int, Meta(ge=0, le=1000)] = 5
    restart_delay_seconds: Annotated[tuple[Seconds, ...], Meta(min_length=1)] = (1.0, 2.0, 4.0, 8.0, 16.0)
    hung_after_seconds: Seconds | None = 60.0
    suspend_idle_after_seconds: Annotated[float, Meta(ge=0, le=86_400 * 365)] | None = 300.0

    def delay_before(self, attempt: int) -> float:
        """How long the restart with this number, from 1, waits, in seconds; later ones as long as the last."""
        return self.restart_delay_seconds[min(attempt, len(self.restart_delay_seconds)) - 1]


class SessionSettings(_Strict, frozen=True, kw_only=True):
    """What the agent's session is about: a task of the context-orchestrator, by default that of the agent's id."""

    task_id: Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[^\x00]*$")] | None = None


class AgentSpecification(HidesEnvironment, _Strict, frozen=True, kw_only=True):
    """Exactly one of `entrypoint` (a Python file or `module:object`), `command` (any program) and `model` is given.

    `models` are the aliases of the models that the agent may ask, beside that of its `model`.
    """

    name: Name
    entrypoint: str | None = None
    command: Command | None = None
    model: ModelAgent | UnsetType = UNSET
    trust_level: TrustLevel = TrustLevel.STANDARD
    resource_limits: ResourceLimits = ResourceLimits()
    tools: dict[str, ToolServer] = {}
    models: Annotated[tuple[Name, ...], Meta(max_length=100)] | UnsetType = UNSET
    environment: dict[str, str] = {}
    files: FileAccess = FileAccess()
    fleet: str | None = None
    budget: str | UnsetType = UNSET
    executor: ExecutorLimits = ExecutorLimits()
    lifecycle: LifecycleLimits = LifecycleLimits()
    session: SessionSettings = SessionSettings()

    @property
    def allowed_models(self) -> tuple[str, ...]:
        """The aliases that the agent may ask."""
        own = (self.model.alias,) if self.model else ()
        return (*own, *(alias for alias in self.models or () if alias not in own))


def validate_specification(specification: AgentSpecification, path: str = "$.spec") -> None:
    """Raise E2110 or E2115 for what the types cannot say."""
    size = len(msgspec.json.encode(specification))
    if size > MAX_SPECIFICATION_BYTES:
        raise Failure(
            ErrorCode.PAYLOAD_TOO_LARGE,
            f"the specification has {size} bytes, at most {MAX_SPECIFICATION_BYTES} are kept; name files instead",
            path,
        )
    given = [way is not None for way in (specification.entrypoint, specification.command, specification.model or None)]
    if sum(given) != 1:
        message = "give exactly one of 'entrypoint', 'command' and 'model'"
        raise Failure(ErrorCode.COMMAND_INVALID, message, f"{path}.entrypoint")
    if specification.model:
        require_shallow(specification.model.output_schema, f"{path}.model.output_schema")
    if specification.fleet is not None:
        require_id(specification.fleet, f"{path}.fleet")
    if specification.budget is not UNSET:
        require_id(specification.budget, f"{path}.budget")
    validate_limits(specification.resource_limits, f"{path}.resource_limits")
    if (why := misfit(specification.resource_limits)) is not None:
        raise Failure(ErrorCode.COMMAND_INVALID, why, f"{path}.resource_limits.tokens_per_hour")
    _require_absolute(specification.files.read, f"{path}.files.read")
    _require_absolute(specification.files.write, f"{path}.files.write")
    entrypoint = specification.entrypoint
    if entrypoint is not None and ":" not in entrypoint:
        _require_absolute((entrypoint,), f"{path}.entrypoint")
    _require_arguments(specification.command or (), f"{path}.command")
    _require_environment(specification.environment, f"{path}.environment")
    for name, server in specification.tools.items():
        _require_arguments(server.command, f"{path}.tools.{name}.command")
        _require_environment(server.environment, f"{path}.tools.{name}.environment")
        _require_absolute(server.read, f"{path}.tools.{name}.read")
        _require_absolute(server.write, f"{path}.tools.{name}.write")


def validate_limits(limits: ResourceLimits, path: str) -> None:
    """Raise E2110 for what the types cannot say."""
    cpu_millis(limits.cpu, f"{path}.cpu")
    memory_bytes(limits.memory, f"{path}.memory")
    if limits.disk is not UNSET:
        memory_bytes(limits.disk, f"{path}.disk")
    if isinstance(limits.cost_per_day, float):
        require_millionths(limits.cost_per_day, f"{path}.cost_per_day")
    if limits.warn_at is not UNSET:
        require_ascending(limits.warn_at, f"{path}.warn_at")


def misfit(limits: ResourceLimits) -> str | None:
    """Why limits do not fit each other, if they do not."""
    hourly, daily = limits.tokens_per_hour, limits.tokens_per_day
    if not isinstance(hourly, int) or not isinstance(daily, int) or hourly <= daily:
        return None
    return f"{hourly:,} tokens an hour can never be had of {daily:,} a day; make the daily limit the larger one"


def _require_absolute(paths: tuple[str, ...], field: str) -> None:
    for path in paths:
        if not path.startswith("/") or "\0" in path:
            raise Failure(
                ErrorCode.COMMAND_INVALID,
                f"{path!r} is not an absolute path; the command line makes the paths of a file absolute",
                field,
            )
        name_bytes = [len(name) for name in path.encode(errors="replace").split(b"/")]
        if sum(name_bytes) + len(name_bytes) - 1 > _MAX_PATH_BYTES or max(name_bytes) > _MAX_NAME_BYTES:
            raise Failure(
                ErrorCode.COMMAND_INVALID,
                f"a path has at most {_MAX_PATH_BYTES} bytes, and {_MAX_NAME_BYTES} between two slashes",
                field,
            )


def _require_arguments(arguments: tuple[str, ...], field: str) -> None:
    if arguments and not arguments[0]:
        raise Failure(ErrorCode.COMMAND_INVALID, "the program's name is empty", field)
    if any("\0" in argument for argument in arguments):
        raise Failure(ErrorCode.COMMAND_INVALID, "a program's argument cannot contain a NUL character", field)


def _require_environment(environment: dict[str, str], field: str) -> None:
    for name, value in environment.items():
        if not name or "=" in name or "\0" in name + value:
            raise Failure(
                ErrorCode.COMMAND_INVALID,
                f"{name!r} cannot be set: a variable's name is not empty and has no '=', neither part has a NUL",
                field,
            )


def cpu_millis(text: str, path: str = "$.cpu") -> int:
    """Thousandths of a core from "2" or "500m"; E2110 for anything else."""
    if not _CPU.fullmatch(text):
        raise Failure(ErrorCode.COMMAND_INVALID, f'{text!r} is not a CPU amount: write "2" or "500m"', path)
    return int(text[:-1]) if text.endswith("m") else int(text) * 1000


def memory_bytes(text: str, path: str = "$.memory") -> int:
    """Bytes from "512Mi" or "2Gi"; E2110 for anything else."""
    match = _MEMORY.fullmatch(text)
    if match is None:
        raise Failure(ErrorCode.COMMAND_INVALID, f'{text!r} is not an amount of bytes: write "512Mi" or "2Gi"', path)
    return int(match[1]) * _MEMORY_UNITS[match[2]]
