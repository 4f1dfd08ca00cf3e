"""How an agent is shown to people, as it is now or as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from l02.domain.specification import AgentSpecification, ResourceLimits
    from l02.projections.folds.agents import AgentView
    from l02.projections.folds.waiting import WaitView

AGENT_HEADINGS = (
    "ID",
    "NAME",
    "STATE",
    "WAITS FOR",
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
    where = (agent.node_id or "-", agent.sandbox_type or "-")
    return (agent.id, agent.name, _state(agent), _first_wait(agent), *(str(count) for count in counts), *where)


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
        ("spent", "\n".join(_spent(agent)) or "-"),
        ("waits for", "\n".join(map(_wait, agent.waiting)) or "-"),
        ("under way", "\n".join(f"{key} since {at:%H:%M:%S}" for key, at in agent.open_executions.items()) or "-"),
        ("tool calls", str(agent.tool_calls)),
        ("tokens", str(agent.tokens)),
        ("used", f"{agent.usage.cpu_seconds:.1f} s of processors, {agent.usage.memory_peak_bytes >> 20}Mi at most"),
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


def _first_wait(agent: AgentView) -> str:
    """What it waits for, in a word or two."""
    if not agent.waiting:
        return "-"
    first, more = agent.waiting[0], len(agent.waiting) - 1
    name = first.budget or first.name
    said = first.kind if name is None else f"{first.kind} {name[:_MAX_NAME]}"
    return said if not more else f"{said} (+{more})"


def _wait(wait: WaitView) -> str:
    whose = f"budget/{wait.budget} " if wait.budget else ""
    text = f"{wait.kind} {whose}{(wait.name or '')[:_MAX_NAME]}".rstrip() + f", since {wait.since:%H:%M:%S}"
    if wait.until is not None:
        text += f", until {wait.until:%Y-%m-%d %H:%M:%S}"
    return text if wait.question is None else f"{text} (l02 approve grant {wait.question})"


def _spent(agent: AgentView) -> list[str]:
    """What its models have used of its own limits."""
    from l02.domain.spending.exhausted import said_amount
    from l02.projections.folds.limits import window_of

    lines = []
    for limit, view in agent.spent.items():
        window = window_of(limit, view)
        if not window.used and not window.reserved:
            continue
        text = f"{said_amount(limit, window.used)} {_OF[limit]}"
        if window.reserved:
            text += f", and {said_amount(limit, window.reserved)} reserved"
        lines.append(text + (f", until {view.reset_at:%Y-%m-%d %H:%M:%S}" if view.reset_at is not None else ""))
    return lines


def _spending(limits: ResourceLimits) -> list[str]:
    """What the agent's models may use."""
    from l02.domain.spending.exhausted import said_amount

    return [f"{said_amount(limit, amount)} {_PER[limit]}" for limit, amount in limits.amounts.items()]


_MAX_NAME = 40
_OF = {"tokens_per_hour": "in the hour", "tokens_per_day": "in the day", "cost_per_day": "in the day"}
_PER = {"tokens_per_hour": "an hour", "tokens_per_day": "a day", "cost_per_day": "a day"}
