from msgspec.structs import replace

from l02.domain.errors import ErrorCode
from tests.domain.agent.session_story import AGENT_ENDED, OPEN, RECOVERED, RECOVERED_PROCESS, SESSION_ENDED
from tests.domain.agent.story import RUNNING, given, spawn_requested, spawned


def test_happened() -> None:
    after = given(*RECOVERED_PROCESS).when(RECOVERED).then(RECOVERED)
    assert after.state.session is not None
    assert after.state.session.node_id == "n2"


def test_it_can_happen_again_to_the_next_process() -> None:
    past = (*RECOVERED_PROCESS, RECOVERED, spawn_requested(3), spawned(3))
    given(*past).when(RECOVERED).then(RECOVERED)


def test_ignored_when_it_is_known() -> None:
    given(*RECOVERED_PROCESS, RECOVERED).when(RECOVERED).ignored()
    given(*OPEN).when(RECOVERED).ignored()


def test_ignored_without_an_open_session() -> None:
    given(*RUNNING).when(RECOVERED).ignored()
    given(*AGENT_ENDED, SESSION_ENDED).when(RECOVERED).ignored()


def test_refused_for_another_session() -> None:
    command = replace(RECOVERED, session_id="s2")
    given(*RECOVERED_PROCESS).when(command).fails(ErrorCode.SESSION_NOT_FOUND, "'s2'")
