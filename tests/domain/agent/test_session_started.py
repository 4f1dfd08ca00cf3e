from msgspec.structs import replace

from l02.domain.agent.session import Session
from l02.domain.errors import ErrorCode
from l02.domain.specification import AgentSpecification, SessionSettings
from tests.domain.agent.session_story import AGENT_ENDED, OPEN, session_started
from tests.domain.agent.story import PENDING, RUNNING, given, spawn_requested, spawned


def test_happened() -> None:
    after = given(*RUNNING).when(session_started()).then(session_started())
    assert after.state.session == Session(task_id="a1", is_started=True, node_id="n1", incarnation=1)
    assert after.state.session_id == "s1", "one id for the agent and its session"


def test_the_task_is_what_the_specification_names() -> None:
    spec = AgentSpecification(
        name="historian", entrypoint="/agents/historian.py", session=SessionSettings(task_id="T-7")
    )
    given(spawn_requested(spec=spec), spawned()).when(session_started()).then(session_started(task_id="T-7"))


def test_ignored_when_it_has_started() -> None:
    given(*OPEN).when(session_started()).ignored()
    given(*OPEN, spawn_requested(2), spawned(2)).when(session_started()).ignored()
    given(*AGENT_ENDED).when(session_started()).ignored()


def test_refused_when_the_agent_has_no_such_session() -> None:
    given(*PENDING).when(session_started()).fails(ErrorCode.SESSION_NOT_FOUND, "None, not 's1'")
    given(*PENDING, replace(spawned(), session_id="s2")).when(session_started()).fails(
        ErrorCode.SESSION_NOT_FOUND, "s2, not 's1'"
    )
