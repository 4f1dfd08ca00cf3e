"""How an agent is shown to people, as it is now or as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from l02.domain.specification import AgentSpecification, ResourceLimits
    from l02.projections.folds.agents import AgentView

AGENT_HEADINGS = (
    "ID",
    "NAME",
    "STATE",
    "WORK",
    "DONE",
    "FAILED",
    "TOOLS",
    "TOKENS",
    "USD",
    "RESTARTS",
    "NODE",
    "SANDBOX",
)


def agent_row(agent: AgentView) -> tuple[str, ...]:
    """The agent as a line of a table with AGENT_HEADINGS."""
    counts = (
        len(agent.open_executions),
        agent.executions_completed,
        agent.executions_failed,
        agent.tool_calls,
        agent.tokens,
        usd(agent.cost_usd),
        agent.restarts,
    )
    sandbox = agent.sandbox_type or "-"
    return (agent.id, agent.name, _state(agent), *(str(count) for count in counts), agent.node_id or "-", sandbox)


def usd(amount: float) -> str:
    """An amount of US dollars, to the millionth."""
    return f"{amount:.6f}".rstrip("0").rstrip(".")


def _state(agent: AgentView) -> str:
    if agent.halted_at:
        return "halted"
    return "terminating" if agent.terminating else agent.state.value


def _thinks_with(spec: AgentSpecification) -> str:
    return f"the built-in agent, with the model {spec.model.alias}" if spec.model else "-"


def agent_pairs(agent: AgentView) -> list[tuple[str, str]]:
    """All that is known about the agent, with its names."""
    limits = agent.resource_limits
    spec = agent.spec
    pairs = [
        ("id", agent.id),
        ("name", agent.name),
        ("state", _state(agent) + (f" ({agent.terminate_reason})" if agent.terminate_reason else "")),
        ("program", spec.entrypoint or " ".join(spec.command or ()) or _thinks_with(spec)),
        ("tools", ", ".join(spec.tools) or "-"),
        ("node", agent.node_id or "-"),
        ("sandbox", f"{agent.sandbox_type or '-'} (trust level {agent.trust_level})"),
        ("limits", ", ".join((f"{limits.cpu} CPU", limits.memory, *_spending(limits)))),
        ("created", f"{agent.created_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("changed", f"{agent.updated_at:%Y-%m-%d %H:%M:%S} UTC, version {agent.version}, event {agent.sequence}"),
        ("executions", f"{agent.executions_completed} completed, {agent.executions_failed} failed"),
        ("under way", "\n".join(f"{key} since {at:%H:%M:%S}" for key, at in agent.open_executions.items()) or "-"),
        ("tool calls", str(agent.tool_calls)),
        ("tokens", str(agent.tokens)),
        ("cost", f"{usd(agent.cost_usd)} USD"),
        ("restarts", f"{agent.restarts}" + (f" (last: {agent.restart_cause})" if agent.restart_cause else "")),
    ]
    if agent.fleet_id:
        pairs.insert(2, ("fleet", agent.fleet_id))
    if agent.forked_from:
        pairs.append(("forked from", agent.forked_from))
    if agent.checkpoint_id:
        pairs.append(("checkpoint", agent.checkpoint_id))
    if agent.suspend_reason:
        pairs.append(("suspended for", agent.suspend_reason))
    if agent.halted_at:
        pairs.append(("halted", f"at message {agent.halted_at}, which cannot be taken in; `l02 dead list` says why"))
    if agent.last_error:
        pairs.append(("last error", f"{agent.last_error.code}: {agent.last_error.message}"))
    return pairs


def _spending(limits: ResourceLimits) -> list[str]:
    """What the agent's models may use."""
    from l02.domain.spending.exhausted import said_amount

    return [f"{said_amount(limit, amount)} {_PER[limit]}" for limit, amount in limits.amounts.items()]


_PER = {"tokens_per_hour": "an hour", "tokens_per_day": "a day", "cost_per_day": "a day"}
