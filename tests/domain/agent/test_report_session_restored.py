from msgspec.structs import replace

from domain.agent import events as e
from domain.errors import ErrorCode
from tests.domain.agent.session_story import AGENT_ENDED, OPEN, degraded, report_restored
from tests.domain.agent.story import given

RESTORED = e.SessionRestored(session_id="s1", task_id="a1")


def test_happened() -> None:
    after = given(*OPEN, degraded("heartbeat", "E2051")).when(report_restored()).then(RESTORED)
    assert after.state.session is not None
    assert after.state.session.failures == {}


def test_ignored_when_nothing_had_failed() -> None:
    given(*OPEN).when(report_restored()).ignored()
    ended = e.SessionEnded(session_id="s1", task_id="a1", reason="user_request", unsent=0, error=None)
    given(*AGENT_ENDED, degraded(), ended).when(report_restored()).ignored()


def test_refused_for_another_session() -> None:
    given(*OPEN).when(replace(report_restored(), session_id="s2")).fails(ErrorCode.SESSION_NOT_FOUND, "'s2'")
