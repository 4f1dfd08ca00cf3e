"""An agent gets the limits that its specification leaves out when it is spawned, and they stand in its first event.

So what limits an agent is on record, and other settings are for agents to come: those there are change by `set-quota`.
An agent of whose models every call would be refused is not made.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Protocol

from msgspec import UNSET
from msgspec.structs import replace

from l02.bus.log.repository import Repository
from l02.domain.agent.life.spawning import Spawn
from l02.domain.agent.state import AgentState
from l02.domain.budget.state import BudgetState
from l02.domain.errors import ErrorCode, Failure
from l02.domain.identifiers import is_id
from l02.domain.inference import KnownInput, ModelRequest, Spending
from l02.domain.kernel.message import Context
from l02.domain.specification import AgentSpecification
from l02.domain.spending.exhausted import said_amount
from l02.domain.spending.limits import LimitName
from l02.domain.spending.windows import shortage
from l02.handlers.resources.chains import levels_of
from l02.handlers.resources.settings import ResourceSettings


class Quotes(Protocol):
    """The models of a node."""

    def quote(self, alias: str, request: ModelRequest, known: KnownInput | None = None) -> Spending:
        """The most that a call can use; Failure if there is none such."""


class LimitDefaults:
    """Those of a node. `settings` may be replaced while it runs."""

    def __init__(
        self,
        agents: Repository[AgentState],
        budgets: Repository[BudgetState],
        models: Quotes,
        settings: ResourceSettings,
    ) -> None:
        self.settings = settings
        self._budgets = budgets
        self._models = models
        agents.before_deciding(Spawn, self._with_limits)

    async def _with_limits(self, command: Spawn, context: Context) -> Spawn:
        said = self.settings
        limits = command.spec.resource_limits.with_defaults(
            said.tokens_per_hour, said.token_budget_action, said.warn_at
        )
        specification = replace(command.spec, resource_limits=limits)
        await self._require_room(specification)
        return replace(command, spec=specification)

    async def _require_room(self, specification: AgentSpecification) -> None:
        """E2110 if none of its models can ever be asked, within its own limits or those of the budgets it draws on."""
        least = self._least(specification)
        if not least:
            return
        own = specification.resource_limits.amounts
        for alias, needed in least.items():
            _require(own, needed, alias, "$.spec.resource_limits", "the agent's own")
        if specification.budget is UNSET or not is_id(specification.budget):
            return
        try:
            levels = await levels_of(self._budgets, (specification.budget,), {})
        except Failure:  # nothing can be drawn from it: the first call says so, if it is not put right before
            return
        for level in levels:
            allowed = (await self._budgets.load(level)).state.allowed
            for alias, needed in least.items():
                _require(allowed, needed, alias, "$.spec.budget", f"budget {level!r}, its")

    def _least(self, specification: AgentSpecification) -> dict[str, Spending]:
        """What a call may need at least, by alias. A program can ask for one token, the built-in agent asks as it is
        told to. Of a model that this node has not, nothing is known.
        """
        model = specification.model
        least: dict[str, Spending] = {}
        for alias in specification.allowed_models:
            built_in = model is not UNSET and model.alias == alias
            prompt, most = (model.prompt, model.max_tokens) if model is not UNSET and built_in else ("", 1)
            messages = tuple({"role": role, "content": text} for role, text in (("system", prompt), ("user", "")))
            with suppress(Failure):
                least[alias] = self._models.quote(alias, ModelRequest(messages=messages, max_tokens=most))
        return least


def _require(amounts: Mapping[LimitName, int], needed: Spending, alias: str, path: str, whose: str) -> None:
    """0 allows nothing, and says so on purpose."""
    short = shortage({limit: amount for limit, amount in amounts.items() if amount}, {}, needed)
    if short is None:
        return
    limit = short.limit
    raise Failure(
        ErrorCode.COMMAND_INVALID,
        f"a call of model {alias!r} may need {said_amount(limit, short.needed)}, and {whose} {limit} of "
        f"{said_amount(limit, short.amount)} can never hold that: raise it, or have the model say less (`max_tokens`)",
        f"{path}.{limit}" if path.endswith("limits") else path,
    )
