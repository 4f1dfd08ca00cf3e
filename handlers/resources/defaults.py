"""An agent gets the limits that its specification leaves out when it is spawned, and they stand in its first event.

So what limits an agent is on record, and other settings are for agents to come: those there are change by `set-quota`.
"""

from __future__ import annotations

from msgspec.structs import replace

from l02.bus.log.repository import Repository
from l02.domain.agent.life.spawning import Spawn
from l02.domain.agent.state import AgentState
from l02.domain.kernel.message import Context
from l02.handlers.resources.settings import ResourceSettings


class LimitDefaults:
    """Those of a node. `settings` may be replaced while it runs."""

    def __init__(self, agents: Repository[AgentState], settings: ResourceSettings) -> None:
        self.settings = settings
        agents.before_deciding(Spawn, self._with_limits)

    async def _with_limits(self, command: Spawn, context: Context) -> Spawn:
        said = self.settings
        limits = command.spec.resource_limits.with_defaults(
            said.tokens_per_hour, said.token_budget_action, said.warn_at
        )
        return replace(command, spec=replace(command.spec, resource_limits=limits))
