"""Which budgets a call draws on: those it names, and what they are parts of, up to the root."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import UNSET

from l02.bus.log.repository import Repository
from l02.domain.agent.life.spawning import Spawn
from l02.domain.agent.state import AgentState
from l02.domain.budget.configuring import Configure
from l02.domain.budget.state import BudgetState
from l02.domain.errors import ErrorCode, Failure
from l02.domain.identifiers import require_id
from l02.domain.kernel.message import Command, Context

MAX_LEVELS = 16
"""How many budgets may stand above one another."""


async def levels_of(
    repository: Repository[BudgetState], budgets: Sequence[str], changed: Mapping[str, int]
) -> tuple[str, ...]:
    """From the leaves to the roots, each once. `changed` has the last event by which a budget may have moved.

    Raises Failure E2072 for one that is not configured, a part of itself, or below too many others: nothing can be had.
    """
    levels: dict[str, None] = {}
    for leaf in budgets:
        path: list[str] = []
        level: str | None = leaf
        while level is not None:
            state = (await repository.known(level, changed.get(level, 0))).state
            if not state.exists:
                way = " → ".join([*path, level])
                raise _unusable(f"budget {level!r} is not configured ({way}): `l02 budget configure {level} …`")
            path.append(level)
            if state.parent in path or len(path) > MAX_LEVELS:
                raise _unusable(_too_long([*path, *filter(None, [state.parent])]))
            level = state.parent
        levels |= dict.fromkeys(path)
    return tuple(levels)


class Lineage:
    """Refuses a budget that would come to be a part of itself, as far as that can be seen when it is configured."""

    def __init__(self, repository: Repository[BudgetState]) -> None:
        self._repository = repository
        repository.before_deciding(Configure, self._checked)

    async def _checked(self, command: Configure, context: Context) -> Command:
        path, parent = [context.aggregate_id], command.parent
        while parent is not None:
            path.append(parent)
            if parent == context.aggregate_id and len(path) == 2:
                break  # the decision says so
            if parent in path[:-1] or len(path) > MAX_LEVELS:
                raise Failure(ErrorCode.COMMAND_INVALID, _too_long(path), "$.parent")
            parent = (await self._repository.load(parent)).state.parent if parent != context.aggregate_id else None
        return command


class NamedBudgets:
    """Refuses an agent whose specification names a budget that there is not: it would be refused at its first call."""

    def __init__(self, agents: Repository[AgentState], budgets: Repository[BudgetState]) -> None:
        self._budgets = budgets
        agents.before_deciding(Spawn, self._checked)

    async def _checked(self, command: Spawn, context: Context) -> Spawn:
        budget = command.spec.budget
        if budget is not UNSET and not (await self._budgets.load(require_id(budget, "$.spec.budget"))).state.exists:
            raise Failure(
                ErrorCode.COMMAND_INVALID,
                f"there is no budget {budget!r}; make it first: `l02 budget configure {budget}`",
                "$.spec.budget",
            )
        return command


def _unusable(why: str) -> Failure:
    return Failure(ErrorCode.TOKEN_BUDGET_EXCEEDED, why)


def _too_long(path: Sequence[str]) -> str:
    way = " → ".join(path)
    if len(set(path)) < len(path):
        return f"a budget cannot be a part of itself: {way}; give one of them another parent"
    return f"at most {MAX_LEVELS} budgets may stand above one another: {way}"
