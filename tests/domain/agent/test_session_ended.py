from msgspec.structs import replace

from l02.domain.agent.session import Session
from l02.domain.agent.sessions import SessionEnded
from l02.domain.agent.state import ErrorDetail
from l02.domain.errors import ErrorCode
from tests.domain.agent.session_story import AGENT_ENDED, NEVER_STARTED, OPEN, SESSION_ENDED, WITH_CHECKPOINT
from tests.domain.agent.story import FAILED, TERMINATING, given, terminated


def test_happened() -> None:
    after = given(*AGENT_ENDED).when(SESSION_ENDED).then(SESSION_ENDED)
    assert after.state.session == Session(task_id="a1", is_started=True, is_ended=True)


def test_what_could_not_be_said_is_on_record() -> None:
    error = ErrorDetail(code="E2052", message="it is away")
    told = SessionEnded(session_id="s1", task_id="a1", reason="user_request", unsent=1, error=error)
    given(*WITH_CHECKPOINT, TERMINATING[-1], terminated()).when(replace(SESSION_ENDED, error=error)).then(told)


def test_an_agent_that_was_given_up_ends_its_session_too() -> None:
    told = SessionEnded(session_id="s1", task_id="a1", reason="failed", unsent=0, error=None)
    given(*OPEN, FAILED[-1]).when(SESSION_ENDED).then(told)


def test_ignored_when_it_has_ended_or_never_started() -> None:
    given(*AGENT_ENDED, SESSION_ENDED).when(SESSION_ENDED).ignored()
    given(*NEVER_STARTED).when(SESSION_ENDED).ignored()


def test_refused_while_the_agent_lives() -> None:
    given(*OPEN).when(SESSION_ENDED).fails(ErrorCode.INVALID_STATE, "its session ends with it")
