from msgspec.structs import replace

from l02.domain.errors import ErrorCode
from tests.domain.agent.session_story import ROLLED_BACK, SAVED, created, degraded, restored
from tests.domain.agent.story import given


def test_happened() -> None:
    past = (*SAVED, restored(), degraded("rollback"))
    after = given(*past).when(ROLLED_BACK).then(ROLLED_BACK)
    assert after.state.session is not None
    assert after.state.session.unsent == ()
    assert after.state.session.failures == {}


def test_what_came_after_is_left_to_be_sent() -> None:
    given(*SAVED, restored(), created("k2")).when(ROLLED_BACK).then(replace(ROLLED_BACK, unsent=1))


def test_ignored_when_it_is_known() -> None:
    given(*SAVED, restored(), ROLLED_BACK).when(ROLLED_BACK).ignored()


def test_refused_for_another_session() -> None:
    command = replace(ROLLED_BACK, session_id="s2")
    given(*SAVED, restored()).when(command).fails(ErrorCode.SESSION_NOT_FOUND, "'s2'")
