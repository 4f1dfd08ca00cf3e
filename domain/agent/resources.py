"""What an agent takes of the machine, as its node sees it: said now and then, warned of before a limit strikes."""

from __future__ import annotations

from typing import ClassVar, Literal

from msgspec import Struct
from msgspec.structs import replace

from l02.domain.agent.messages import AgentEvent, AgentReport
from l02.domain.agent.state import AgentState
from l02.domain.kernel.message import Context
from l02.domain.specification import ResourceLimits, cpu_millis, memory_bytes
from l02.domain.spending.limits import LimitName
from l02.domain.spending.windows import with_exceeded, with_warned

WARN_AT_PERCENT = (80, 90)
_MOVED = 0.1
_NOISE = 0.01

ResourceType = Literal["cpu", "memory", "disk", "execution_seconds", "tokens", "cost"]


class ResourceUsageSeen(AgentReport, frozen=True, kw_only=True):
    """What an agent takes has moved by a tenth or more since its process began or this was said last.

    `cpu_seconds`, `memory_peak_bytes` and `tokens_consumed` are of the agent's whole life, `cpu_cores` and
    `memory_bytes` of its process lately.
    """

    type: ClassVar[str] = "agent.resource.usage"
    incarnation: int
    cpu_seconds: float
    cpu_cores: float
    memory_bytes: int
    memory_peak_bytes: int
    tokens_consumed: int

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """If it is of the process that the agent should have."""
        return [self] if agent.is_served_by(self.incarnation) else []

    def evolve(self, agent: AgentState, /) -> AgentState:
        """Should its node be lost, it has used so much at least."""
        seen = replace(agent.usage, cpu_seconds=self.cpu_seconds, memory_peak_bytes=self.memory_peak_bytes)
        return replace(agent, seen_usage=seen)


class ResourceWarned(AgentReport, frozen=True, kw_only=True):
    """So many percent of a limit are used: once for each threshold and process, or execution if it has an id, or window
    if it has a `name`, that of the limit on models; the window is over at `reset_at` (seconds since 1970).

    Of `execution_seconds` usage and limit are in seconds, of `memory` and `disk` in bytes, of `tokens` in tokens, of
    `cost` in USD.
    """

    type: ClassVar[str] = "agent.resource.warning"
    resource_type: ResourceType
    current_usage: float
    limit: float
    threshold_percent: int
    execution_id: str | None = None
    incarnation: int | None = None
    name: LimitName | None = None
    reset_at: float | None = None

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """While the process is the agent's, and the execution under way and not warned of as much."""
        if self.incarnation is not None and not agent.is_served_by(self.incarnation):
            return []
        if self.execution_id is None:
            return [self]
        execution = agent.executions.get(self.execution_id)
        return [] if execution is None or execution.warned_percent >= self.threshold_percent else [self]

    def evolve(self, agent: AgentState, /) -> AgentState:
        """It is not said again of the execution, or in the window."""
        if self.name is not None:
            return replace(agent, windows=with_warned(agent.windows, self.name, self.threshold_percent / 100))
        if self.execution_id is None:
            return agent
        warned = replace(agent.executions[self.execution_id], warned_percent=self.threshold_percent)
        return replace(agent, executions={**agent.executions, self.execution_id: warned})


class ResourceExceeded(AgentEvent, frozen=True, kw_only=True):
    """A limit was passed; `action_taken` `terminate` has ended the process, and `code` stands in its cause as well.

    Units are those of a warning; of `cpu`, seconds of processors that were used by what was stopped.

    If it has a `name`, that of a limit on models, a call may need more than is left of it until `reset_at` (seconds
    since 1970): `actual` is what is used or reserved with that. It is said once in a window.
    """

    type: ClassVar[str] = "agent.resource.exceeded"
    resource_type: ResourceType
    limit: float
    actual: float
    action_taken: Literal["warn", "refuse", "throttle", "suspend", "ask", "terminate"]
    code: str
    name: LimitName | None = None
    reset_at: float | None = None

    def evolve(self, agent: AgentState, /) -> AgentState:
        """What becomes of it, other events say."""
        return agent if self.name is None else replace(agent, windows=with_exceeded(agent.windows, self.name))


class LiveUsage(Struct, frozen=True, kw_only=True):
    """What an agent's process takes now, in key `usage.<id>` of the live views: no event, and gone with the process.

    It stands for the process of this `incarnation` on `node_id`, as of `at` (ISO 8601, UTC). `cpu_cores` and
    `tokens_per_minute` are of lately; `cpu_seconds`, `memory_peak_bytes` and `tokens` of the agent's whole life.
    """

    id: str
    node_id: str
    incarnation: int
    at: str
    cpu_cores: float
    cpu_seconds: float
    memory_bytes: int
    memory_peak_bytes: int
    tokens: int
    tokens_per_minute: float


def has_moved(limits: ResourceLimits, before: ResourceUsageSeen | None, now: ResourceUsageSeen) -> bool:
    """Whether it is worth an event, which is kept for ever: by a tenth, and by a hundredth of the limit."""
    figures = (
        (before.cpu_cores if before else 0, now.cpu_cores, cpu_millis(limits.cpu) / 1000),
        (before.memory_bytes if before else 0, now.memory_bytes, memory_bytes(limits.memory)),
    )
    return any(abs(new - old) >= max(_MOVED * old, _NOISE * limit) for old, new, limit in figures)


def threshold_reached(used: float, limit: float, warned: int) -> int | None:
    """The highest threshold, in percent, that is reached and beyond the one that was `warned` of."""
    reached = [percent for percent in WARN_AT_PERCENT if warned < percent <= 100 * used / limit]
    return max(reached, default=None)
