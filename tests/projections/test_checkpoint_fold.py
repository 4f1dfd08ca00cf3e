"""The view of a checkpoint, event by event."""

from __future__ import annotations

from datetime import timedelta
from functools import reduce

import pytest

from l02.domain.agent.life.suspension import AgentResumed, AgentSuspended
from l02.domain.agent.saved.checkpoints import CheckpointFailed, CheckpointKept
from l02.domain.agent.state import ErrorDetail
from l02.domain.kernel.message import Event
from l02.projections.folds.checkpoints import CHECKPOINT_FOLD, CheckpointState, CheckpointView
from l02.projections.folds.fold import ViewOutOfStep
from tests.domain.agent.story import (
    checkpoint_created,
    checkpoint_expired,
    checkpoint_requested,
    checkpoint_restored,
    restore_requested,
)
from tests.projections.history import START, recorded

FAILED = CheckpointFailed(checkpoint_id="k1", checkpoint_type="manual", code="E2031", message="too large")


def view_after(*events: Event) -> CheckpointView:
    view: CheckpointView | None = None
    items = [item for item in recorded(events) if CHECKPOINT_FOLD.key(item) == ("a1", "k1")]
    view = reduce(CHECKPOINT_FOLD.project, items, view)
    assert view is not None
    return view


def test_it_is_requested_then_stored() -> None:
    asked = view_after(checkpoint_requested(label="good"))
    assert asked == CheckpointView(
        agent_id="a1", checkpoint_id="k1", checkpoint_type="manual", label="good", requested_at=START, sequence=1
    )
    stored = view_after(checkpoint_requested(label="good"), checkpoint_created(label="good"))
    assert stored.state is CheckpointState.STORED
    assert (stored.size_bytes, stored.compressed_bytes, stored.sha256, stored.version) == (100, 50, "9f86d081", 4)
    assert stored.created_at == START + timedelta(seconds=1)
    assert stored.storage_location == "postgres:a1/k1"


def test_it_may_fail() -> None:
    view = view_after(checkpoint_requested(), FAILED)
    assert (view.state, view.error) == (CheckpointState.FAILED, ErrorDetail(code="E2031", message="too large"))


def test_it_is_gone_back_to_named_and_expires() -> None:
    kept = CheckpointKept(checkpoint_id="k1", label="good")
    view = view_after(
        checkpoint_requested(), checkpoint_created(), kept, restore_requested(), checkpoint_restored(),
        checkpoint_expired(),
    )  # fmt: skip
    assert (view.label, view.restored, view.state) == ("good", 1, CheckpointState.EXPIRED)
    assert view.expired_at == START + timedelta(seconds=5)
    assert view.sequence == 6


def test_a_request_that_another_node_takes_over_is_the_same_one() -> None:
    assert view_after(checkpoint_requested(), checkpoint_requested()).requested_at == START


@pytest.mark.parametrize(
    "event",
    [
        AgentSuspended(session_id="s1", reason="idle", checkpoint_id="k1"),
        AgentResumed(session_id="s1", node_id="n1", incarnation=2, checkpoint_id="k1"),
        restore_requested(),
    ],
)
def test_that_it_is_named_is_no_event_of_its_own(event: Event) -> None:
    assert CHECKPOINT_FOLD.key(recorded([event])[0]) is None


def test_it_begins_with_its_request() -> None:
    with pytest.raises(ViewOutOfStep):
        view_after(checkpoint_created())
