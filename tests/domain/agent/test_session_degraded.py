from msgspec.structs import replace

from l02.domain.errors import ErrorCode
from tests.domain.agent.session_story import (
    AGENT_ENDED,
    OPEN,
    SAVED,
    SESSION_ENDED,
    WITH_CHECKPOINT,
    created,
    degraded,
    saved,
)
from tests.domain.agent.story import RUNNING, given


def test_happened() -> None:
    after = given(*WITH_CHECKPOINT).when(degraded()).then(degraded())
    assert after.state.session is not None
    assert after.state.session.failures == {"snapshot": "E2052"}
    assert len(after.state.session.unsent) == 1, "it is sent later"


def test_a_session_that_cannot_start() -> None:
    given(*RUNNING).when(degraded("start", "E2050")).then(degraded("start", "E2050"))


def test_another_code_is_news() -> None:
    given(*WITH_CHECKPOINT, degraded()).when(degraded(code="E2054")).then(degraded(code="E2054"))


def test_a_second_outage_is_news() -> None:
    past = (*WITH_CHECKPOINT, degraded(), saved(), created("k2"))
    given(*past).when(degraded()).then(degraded())


def test_what_is_given_up_is_not_sent_any_more() -> None:
    past = (*WITH_CHECKPOINT, degraded())
    after = given(*past).when(degraded(gave_up=1)).then(degraded(gave_up=1))
    assert after.state.session is not None
    assert after.state.session.unsent == ()
    after.when(degraded(gave_up=1)).ignored()


def test_other_words_are_news_but_not_other_numbers_nor_without_end() -> None:
    first = replace(degraded(), message="port 4222 is closed")
    given(*WITH_CHECKPOINT, first).when(replace(degraded(), message="port 80 is closed")).ignored()
    given(*WITH_CHECKPOINT, first).when(replace(degraded(), message="the disk is full")).then(
        replace(degraded(), message="the disk is full")
    )
    many = [replace(degraded(), message=f"trouble with {letter}") for letter in "abcde"]
    given(*WITH_CHECKPOINT, *many).when(replace(degraded(), message="trouble with f")).ignored()
    given(*WITH_CHECKPOINT, *many, saved(), created("k2")).when(degraded()).then(degraded())


def test_ignored_when_it_is_known() -> None:
    given(*WITH_CHECKPOINT, degraded()).when(degraded()).ignored()
    given(*SAVED).when(degraded(gave_up=1)).ignored()


def test_ignored_when_the_session_has_ended() -> None:
    given(*AGENT_ENDED, SESSION_ENDED).when(degraded()).ignored()


def test_refused_for_another_session() -> None:
    given(*OPEN).when(replace(degraded(), session_id="s2")).fails(ErrorCode.SESSION_NOT_FOUND, "'s2'")
