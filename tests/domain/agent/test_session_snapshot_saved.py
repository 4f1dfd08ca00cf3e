import pytest
from msgspec.structs import replace

from l02.domain.agent.saved.checkpoints import CheckpointKept
from l02.domain.agent.session import MAX_SAVED, MAX_UNSENT, SavedSnapshot
from l02.domain.agent.work.effects import EffectRecorded, RecordedStep
from l02.domain.errors import ErrorCode
from l02.domain.kernel.message import Event
from tests.domain.agent.session_story import (
    AGENT_ENDED,
    OPEN,
    SAVED,
    SESSION_ENDED,
    WITH_CHECKPOINT,
    created,
    degraded,
    restored,
    saved,
)
from tests.domain.agent.story import RUNNING, given, signalled, started, steps_recorded, tool_called, words_counted


def unsent(*past: Event) -> list[tuple[int, str, str, str | None]]:
    session = given(*past).state.session
    assert session is not None
    return [(entry.number, entry.kind, entry.checkpoint_id, entry.label) for entry in session.unsent]


def test_happened() -> None:
    after = given(*WITH_CHECKPOINT).when(saved()).then(saved())
    assert after.state.session is not None
    assert after.state.session.unsent == ()
    assert after.state.session.saved == {"k1": SavedSnapshot(version=2, context_checkpoint_id=None)}


def test_what_had_failed_works_again() -> None:
    past = (*WITH_CHECKPOINT, degraded(), degraded("heartbeat", "E2051"))
    after = given(*past).when(saved()).then(saved())
    assert after.state.session is not None
    assert after.state.session.failures == {"heartbeat": "E2051"}


def test_one_that_was_superseded_meanwhile_has_arrived_all_the_same() -> None:
    past = (*WITH_CHECKPOINT, created("k2"))
    after = given(*past).when(saved(1)).then(saved(1, unsent=1))
    assert unsent(*after.past) == [(2, "snapshot", "k2", None)]


def test_the_newest_wins_but_labels_and_rollbacks_are_kept_in_order() -> None:
    past = (*OPEN, created("k1"), created("k2"), created("k3", "good"), created("k4"), created("k5"), restored("k3"))
    assert unsent(*past) == [
        (3, "snapshot", "k3", "good"),
        (6, "rollback", "k3", None),
    ], "what had no label is superseded, also by the rollback"
    assert unsent(*past, created("k6"), created("k7"))[-1] == (8, "snapshot", "k7", None)


def test_a_label_given_later_is_news() -> None:
    labelled = CheckpointKept(checkpoint_id="k1", label="good")
    assert unsent(*SAVED, CheckpointKept(checkpoint_id="k1")) == []
    assert unsent(*SAVED, labelled) == [(2, "snapshot", "k1", "good")]
    assert unsent(*SAVED, labelled, labelled) == [(2, "snapshot", "k1", "good")]


def test_what_is_kept_is_bounded() -> None:
    many = tuple(created(f"k{number}", "label") for number in range(MAX_UNSENT + 5))
    assert [entry[0] for entry in unsent(*OPEN, *many)] == list(range(6, MAX_UNSENT + 6))
    arrived = tuple(saved(number + 1, f"k{number}") for number in range(MAX_SAVED + 1))
    session = given(*OPEN, *arrived).state.session
    assert session is not None
    assert len(session.saved) == MAX_SAVED
    assert "k0" not in session.saved


def test_the_context_is_what_the_agent_was_doing_then() -> None:
    waiting = EffectRecorded(
        execution_id="x1", call=2, kind="signal", request={"name": "approve"}, result=None, done=False
    )
    past = (*OPEN, started("x1"), started("x2"), tool_called(1), waiting, created(), signalled())
    session = given(*past).state.session
    assert session is not None
    context = session.unsent[0].context
    assert context.working_on == "execution x1: how many commits?"
    assert context.last_action == "tool send_mail"
    assert context.next_step == "execution x2"
    assert context.blockers == ("waits for signal 'approve'",)


@pytest.mark.parametrize(
    ("steps", "action"),
    [
        ([words_counted(2), RecordedStep(call=1, kind="thread", after=0)], "tool count_words"),
        ([RecordedStep(call=2, kind="now", after=0)], "now"),
        ([RecordedStep(call=2, kind="tool", after=0)], "tool None"),
        ([RecordedStep(call=1, kind="thread", after=0)], "tool send_mail"),
    ],
)
def test_what_it_did_itself_is_an_action(steps: list[RecordedStep], action: str) -> None:
    session = given(*OPEN, started("x1"), tool_called(1), steps_recorded(*steps), created()).state.session
    assert session is not None and session.unsent[0].context.last_action == action


def test_what_was_recorded_as_nobody_should_is_an_action_too() -> None:
    odd = EffectRecorded(execution_id="x1", call=2, kind="tool", request=7, result=None)
    session = given(*OPEN, started("x1"), odd, created()).state.session
    assert session is not None and session.unsent[0].context.last_action == "tool"


def test_a_long_input_is_shortened() -> None:
    long = replace(started("x1"), input={"text": "ü" * 1000})
    session = given(*OPEN, long, created()).state.session
    assert session is not None
    working_on = session.unsent[0].context.working_on
    assert working_on is not None
    assert len(working_on) < 250
    assert working_on.endswith("…")


def test_ignored_when_it_is_known() -> None:
    given(*SAVED).when(saved()).ignored()
    given(*SAVED, created("k2"), saved(2, "k2")).when(saved(1)).ignored()


def test_ignored_without_an_open_session() -> None:
    given(*RUNNING, created()).when(saved()).ignored()
    given(*AGENT_ENDED, SESSION_ENDED).when(saved()).ignored()
    assert unsent(*AGENT_ENDED, SESSION_ENDED, created()) == []


def test_refused_for_another_session() -> None:
    given(*WITH_CHECKPOINT).when(replace(saved(), session_id="s2")).fails(ErrorCode.SESSION_NOT_FOUND, "'s2'")
