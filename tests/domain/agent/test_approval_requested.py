import pytest
from msgspec.structs import replace

from l02.domain.errors import ErrorCode
from tests.domain.agent.approvals import ASKED, NO, WAITING, YES, answered
from tests.domain.agent.story import EXECUTING, completed, given, past_after, tool_called


def test_happened() -> None:
    after = given(*EXECUTING).when(ASKED).then(ASKED).state
    assert after.executions["x1"].approvals[1].granted is None
    assert after.executions["x1"].has_run


def test_ignored_when_already_asked() -> None:
    given(*WAITING).when(ASKED).ignored()
    given(*WAITING, answered(NO)).when(ASKED).ignored()
    given(*WAITING, answered(YES), tool_called()).when(ASKED).ignored()


@pytest.mark.parametrize("other", [{"arguments": {"to": "eve"}}, {"tool": "send_money"}, {"server": "bank"}])
def test_refused_as_another_call_than_that_which_the_yes_is_for(other: dict[str, object]) -> None:
    given(*WAITING, answered(YES)).when(replace(ASKED, **other)).fails(ErrorCode.NONDETERMINISTIC_AGENT, "send_mail")


def test_refused_when_the_execution_is_not_under_way() -> None:
    given(*WAITING, completed()).when(ASKED).fails(ErrorCode.INVALID_STATE, "x1 is not under way")
    given(*EXECUTING).when(replace(ASKED, execution_id="x2")).fails(ErrorCode.INVALID_STATE, "x2 is not under way")


def test_refused_of_a_node_that_the_agent_is_not_on() -> None:
    given(*EXECUTING).when(ASKED, node_id="n2").fails(ErrorCode.INVALID_STATE, "not on node n2 but on n1")


def test_a_fork_asks_for_itself() -> None:
    (inherited,) = past_after(*WAITING, answered(YES)).executions
    assert not hasattr(inherited, "approvals") or not inherited.approvals
