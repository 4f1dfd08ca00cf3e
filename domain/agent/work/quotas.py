"""An agent's limits are changed while it is at work: what it needs next meets them as they are then."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from msgspec import UNSET, Meta, Struct, UnsetType, to_builtins
from msgspec.structs import asdict, replace

from l02.domain.agent.messages import AgentCommand, AgentEvent
from l02.domain.agent.state import AgentState
from l02.domain.agent.work.blocking import freed, rolled_over
from l02.domain.agent.work.own_limits import evolved, warned
from l02.domain.errors import ErrorCode, Failure
from l02.domain.kernel.message import Context
from l02.domain.specification import ResourceLimits, Seconds, misfit, validate_limits
from l02.domain.spending.limits import LimitAction, LimitName, Tokens
from l02.domain.spending.money import Usd
from l02.domain.spending.windows import with_other_amounts


class LimitChanges(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Those of an agent's `resource_limits` that change; null takes one away.

    `cpu` and `memory` are of its next process, `execution_seconds` of work that is accepted from now on.
    """

    tokens_per_hour: Tokens | UnsetType | None = UNSET
    tokens_per_day: Tokens | UnsetType | None = UNSET
    cost_per_day: Usd | UnsetType | None = UNSET
    execution_seconds: Seconds | UnsetType | None = UNSET
    cpu: Annotated[str, Meta(max_length=20)] | UnsetType = UNSET
    memory: Annotated[str, Meta(max_length=20)] | UnsetType = UNSET


class SetQuota(AgentCommand, frozen=True, kw_only=True):
    """Change some of the agent's limits, or what is done at one; the others stay as they are."""

    verb: ClassVar[str] = "set-quota"
    limits: LimitChanges = LimitChanges()
    action: LimitAction | UnsetType = UNSET

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """Calls that wait are tried again where it helps them; E2073 if it has ended, or the limits do not fit."""
        if not agent.is_live:
            raise Failure(ErrorCode.QUOTA_UPDATE_FAILED, "the agent has ended or is about to; spawn a new one")
        before = agent.specification.resource_limits
        limits = self._merged(before)
        validate_limits(limits, "$.limits")
        if (why := misfit(limits)) is not None:
            raise Failure(ErrorCode.QUOTA_UPDATE_FAILED, why, "$.limits.tokens_per_hour")
        if limits == before:
            return []
        events = rolled_over(agent, context)
        agent = evolved(agent, events)
        updated = QuotaUpdated(
            limits=limits,
            usage={limit: limit.said(window.used) for limit, window in agent.windows.items()},
            reset_at={limit: at for limit, window in agent.windows.items() if (at := window.reset_at) is not None},
            by=context.actor,
        )
        after = updated.evolve(agent)

        def raised(limit: LimitName) -> float | None:
            old, new = before.amounts.get(limit), limits.amounts.get(limit)
            return None if old is None or new is None else limit.said(max(0, new - old))

        action_changed = limits.action != before.action
        return [
            *events,
            updated,
            *warned(after),
            *freed(after, context, context.actor, raised, action_changed=action_changed),
        ]

    def _merged(self, limits: ResourceLimits) -> ResourceLimits:
        said = {name: value for name, value in asdict(self.limits).items() if value is not UNSET}
        if said.get("execution_seconds", UNSET) is None:
            said["execution_seconds"] = UNSET
        return replace(limits, **said, action=limits.action if self.action is UNSET else self.action)


class QuotaUpdated(AgentEvent, frozen=True, kw_only=True):
    """These are the agent's limits from now on, `by` somebody. `usage` is what was used of those on models in the
    windows that end at `reset_at` (seconds since 1970): tokens, or USD.
    """

    type: ClassVar[str] = "agent.quota.updated"
    limits: ResourceLimits
    usage: dict[LimitName, float]
    reset_at: dict[LimitName, float]
    by: str

    def evolve(self, agent: AgentState, /) -> AgentState:
        """They hold for what it needs next."""
        return replace(
            agent,
            spec=replace(agent.specification, resource_limits=self.limits),
            windows=with_other_amounts(agent.windows, self.limits.amounts),
        )

    def outcome(self) -> dict[str, Any]:
        """What is allowed, and used."""
        return {"limits": to_builtins(self.limits), "usage": self.usage, "reset_at": self.reset_at}
