from l02.domain.agent.execution import JournalEntry
from l02.domain.errors import ErrorCode
from tests.domain.agent.story import EXECUTING, SEND_MAIL, completed, given, tool_called, tool_requested


def test_happened() -> None:
    execution = given(*EXECUTING).when(tool_called()).then(tool_called()).state.executions["x1"]
    assert execution.journal == (
        JournalEntry(
            call=1, kind="tool", request={"tool": "send_mail", "arguments": {"to": "bob"}}, ok=True, result="sent"
        ),
    )


def test_the_call_is_in_doubt_no_more() -> None:
    past = (*EXECUTING, tool_requested(1), tool_requested(2))
    after = given(*past).when(tool_called(1)).then(tool_called(1))
    assert after.state.executions["x1"].requested_tools == {2: SEND_MAIL}


def test_the_journal_has_the_order_of_the_answers() -> None:
    journal = given(*EXECUTING, tool_called(2), tool_called(1)).state.executions["x1"].journal
    assert [entry.call for entry in journal] == [2, 1]


def test_ignored_when_already_recorded() -> None:
    given(*EXECUTING, tool_called()).when(tool_called()).ignored()


def test_refused_when_the_execution_is_not_under_way() -> None:
    given(*EXECUTING, completed()).when(tool_called()).fails(ErrorCode.INVALID_STATE, "x1 is not under way")
    given(*EXECUTING).when(tool_called(execution_id="x2")).fails(ErrorCode.INVALID_STATE, "x2 is not under way")
