from l02.domain.errors import ErrorCode
from tests.domain.agent.story import EXECUTING, RUNNING, SEND_MAIL, completed, given, tool_called, tool_requested


def test_happened() -> None:
    after = given(*EXECUTING).when(tool_requested()).then(tool_requested())
    assert after.state.executions["x1"].requested_tools == {1: SEND_MAIL}


def test_each_call_has_its_own() -> None:
    given(*EXECUTING, tool_requested(1)).when(tool_requested(2)).then(tool_requested(2))


def test_ignored_when_already_requested() -> None:
    given(*EXECUTING, tool_requested()).when(tool_requested()).ignored()


def test_ignored_when_already_called() -> None:
    given(*EXECUTING, tool_requested(), tool_called()).when(tool_requested()).ignored()


def test_refused_when_the_execution_is_not_under_way() -> None:
    given(*RUNNING).when(tool_requested()).fails(ErrorCode.INVALID_STATE, "x1 is not under way")
    given(*EXECUTING, completed()).when(tool_requested()).fails(ErrorCode.INVALID_STATE, "x1 is not under way")
