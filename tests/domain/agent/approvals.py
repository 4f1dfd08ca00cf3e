"""An agent that waits for a person's yes, and what can be said to it."""

from __future__ import annotations

from l02.domain.agent.work.approvals import ApprovalAnswered, ApprovalRequested, Approve
from tests.domain.agent.story import EXECUTING

ASKED = ApprovalRequested(execution_id="x1", call=1, server="mail", tool="send_mail", arguments={"to": "bob"})
YES = Approve(execution_id="x1", call=1)
NO = Approve(execution_id="x1", call=1, granted=False, reason="not today")
WAITING = (*EXECUTING, ASKED)


def answered(command: Approve, by: str = "alice") -> ApprovalAnswered:
    return ApprovalAnswered(execution_id="x1", call=1, granted=command.granted, reason=command.reason, answered_by=by)
