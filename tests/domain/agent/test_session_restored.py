from msgspec.structs import replace

from l02.domain.errors import ErrorCode
from tests.domain.agent.session_story import AGENT_ENDED, OPEN, RESTORED, SESSION_ENDED, degraded
from tests.domain.agent.story import given


def test_happened() -> None:
    after = given(*OPEN, degraded("heartbeat", "E2051")).when(RESTORED).then(RESTORED)
    assert after.state.session is not None
    assert after.state.session.failures == {}


def test_ignored_when_nothing_had_failed() -> None:
    given(*OPEN).when(RESTORED).ignored()
    given(*AGENT_ENDED, degraded(), SESSION_ENDED).when(RESTORED).ignored()


def test_refused_for_another_session() -> None:
    given(*OPEN).when(replace(RESTORED, session_id="s2")).fails(ErrorCode.SESSION_NOT_FOUND, "'s2'")
