"""Tools that a person must say yes to before each call: the question and its answer are on record, whoever dies.

Which tools those are, the specification says (`tools.<server>.ask`).
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from msgspec import Meta
from msgspec.structs import replace

from l02.domain.agent.execution import Approval, Blocked, Execution
from l02.domain.agent.life.suspension import woken
from l02.domain.agent.messages import AgentCommand, AgentEvent, AgentReport, refuse
from l02.domain.agent.state import AgentState
from l02.domain.agent.work.blocking import denied, gone_on
from l02.domain.agent.work.effects import at_work
from l02.domain.errors import ErrorCode, Failure
from l02.domain.kernel.message import Context
from l02.domain.spending.limits import LimitAction


class ApprovalRequested(AgentReport, frozen=True, kw_only=True):
    """An execution wants to call a tool that a person must say yes to, and waits for that.

    Large arguments may be a reference to the object store.
    """

    type: ClassVar[str] = "agent.approval.requested"
    execution_id: str
    call: int
    server: str
    tool: str
    arguments: Any

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """Once for a call."""
        execution = at_work(agent, self.execution_id, context)
        known = execution.approvals.get(self.call)
        if known is not None and not known.is_for(self.server, self.tool, self.arguments):
            raise Failure(
                ErrorCode.NONDETERMINISTIC_AGENT,
                f"call {self.call} was to call tool {known.tool!r} as a person was asked; an agent must "
                "make the same calls when it gets the same answers (docs/agent-protocol.md)",
            )
        return [] if known is not None or execution.has_recorded(self.call) else [self]

    def evolve(self, agent: AgentState, /) -> AgentState:
        """It waits for a person."""
        approval = Approval(server=self.server, tool=self.tool, arguments=self.arguments)
        return _with(agent, self.execution_id, self.call, approval)


class Approve(AgentCommand, frozen=True, kw_only=True):
    """Say yes, or with `granted` false no, to a tool's call that waits for a person. `reason` is told to the agent.

    To a call that waits for a limit one can say no; yes is to raise the limit (`set-quota`, `budget raise`).
    """

    verb: ClassVar[str] = "approve"
    execution_id: str
    call: Annotated[int, Meta(ge=1)]
    granted: bool = True
    reason: Annotated[str, Meta(max_length=1000)] | None = None

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """Answered once; whoever says the same again is ignored."""
        if not agent.is_live:
            refuse(agent, self.verb, "nothing of it waits any more")
        execution = agent.executions.get(self.execution_id)
        approval = None if execution is None else execution.approvals.get(self.call)
        blocked = None if execution is None else execution.blocked.get(self.call)
        if execution is not None and blocked is not None and blocked.action is LimitAction.ASK:
            return self._about_limit(agent, execution, blocked, context)
        if approval is None:
            raise Failure(
                ErrorCode.INVALID_STATE,
                f"call {self.call} of execution {self.execution_id[:128]} waits for nobody; `l02 approve list` shows "
                "what does",
            )
        if approval.granted is not None:
            if approval.granted == self.granted:
                return []
            said = "granted" if approval.granted else "denied"
            raise Failure(ErrorCode.INVALID_STATE, f"call {self.call} was {said} by {approval.by} already")
        answered = ApprovalAnswered(
            execution_id=self.execution_id,
            call=self.call,
            granted=self.granted,
            reason=self.reason,
            answered_by=context.actor,
        )
        return [*woken(agent, context.node_id), answered]

    def _about_limit(
        self, agent: AgentState, execution: Execution, blocked: Blocked, context: Context
    ) -> list[AgentEvent]:
        if self.granted:
            how = "`l02 set-quota`" if blocked.budget is None else f"`l02 budget raise {blocked.budget}`"
            raise Failure(
                ErrorCode.COMMAND_INVALID,
                f"call {self.call} waits for more of {blocked.limit}: say how much, by {how} or `l02 approve grant`",
                "$.granted",
            )
        if blocked.denied_by is not None:
            return []
        return gone_on(agent, [denied(execution, self.call, blocked, context.actor, self.reason)], context)


class ApprovalAnswered(AgentEvent, frozen=True, kw_only=True):
    """A person has said whether a tool may be called, and perhaps why."""

    type: ClassVar[str] = "agent.approval.answered"
    execution_id: str
    call: int
    granted: bool
    reason: str | None
    answered_by: str

    def evolve(self, agent: AgentState, /) -> AgentState:
        """The call goes on, or fails."""
        approval = agent.executions[self.execution_id].approvals[self.call]
        answered = replace(approval, granted=self.granted, reason=self.reason, by=self.answered_by)
        return _with(agent, self.execution_id, self.call, answered)


def _with(agent: AgentState, execution_id: str, call: int, approval: Approval) -> AgentState:
    execution = agent.executions[execution_id]
    return agent.with_execution(replace(execution, approvals={**execution.approvals, call: approval}))
