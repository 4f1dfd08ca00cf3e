"""What a snapshot says of an agent: the fields of a task's context, filled in."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from l02.domain.agent.session import SessionContext, Unsent
from l02.domain.agent.state import AgentState, Status

_STATUS_AT_END = {
    "completed": "completed",
    "error": "blocked",
    "timeout": "blocked",
    "resource_exceeded": "blocked",
}
"""By the reason of an agent's end. One that was only told to stop leaves a task that another may take up."""


def at_start(agent_id: str, state: AgentState) -> dict[str, Any]:
    """The task is being worked on from now on."""
    return {"status": "in_progress", "resumePrompt": _resume_prompt(agent_id, state, None)}


def at_checkpoint(agent_id: str, state: AgentState, entry: Unsent) -> dict[str, Any]:
    """What the agent was doing when the checkpoint was created, or restored.

    The last action names the checkpoint: a server that makes a version only of what has changed has one of each so.
    """
    done = f"checkpoint {entry.checkpoint_id} {'created' if entry.kind == 'snapshot' else 'restored'}"
    before = entry.context.last_action
    context = replace(entry.context, last_action=done if before is None else f"{done} after {before}")
    return {
        "status": "in_progress",
        "immediateContext": _immediate(context),
        "resumePrompt": _resume_prompt(agent_id, state, entry),
    }


def at_end(agent_id: str, state: AgentState) -> dict[str, Any]:
    """What has become of the task."""
    if state.status is Status.FAILED:
        status, blockers = "blocked", ["the agent has failed"]
    else:
        reason = state.terminating or ""
        status = _STATUS_AT_END.get(reason, "pending")
        blockers = [f"the agent was terminated: {reason}"] if status == "blocked" else []
    return {
        "status": status,
        "immediateContext": _immediate(SessionContext(blockers=tuple(blockers))),
        "resumePrompt": f"Agent {state.specification.name} ({agent_id}) has ended: see `l02 events {agent_id}`.",
    }


def _immediate(context: SessionContext) -> dict[str, Any]:
    return {
        "workingOn": context.working_on,
        "lastAction": context.last_action,
        "nextStep": context.next_step,
        "blockers": list(context.blockers),
    }


def _resume_prompt(agent_id: str, state: AgentState, entry: Unsent | None) -> str:
    prompt = f"Agent {state.specification.name} ({agent_id}) works on this; `l02 show {agent_id}` says how it is."
    if entry is None:
        return prompt
    named = f"{entry.checkpoint_id} ({entry.label})" if entry.label is not None else entry.checkpoint_id
    return f"{prompt} Checkpoint {named} holds it: `l02 restore {agent_id} {entry.checkpoint_id}`."
