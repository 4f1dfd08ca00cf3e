"""Whatever the bridge calls a session's task: on record is the one that the session is about."""

import pytest
from msgspec.structs import replace

from l02.domain.kernel.message import Event, Report
from tests.domain.agent.session_story import (
    AGENT_ENDED,
    OPEN,
    RECOVERED,
    RECOVERED_PROCESS,
    RESTORED,
    ROLLED_BACK,
    SAVED,
    SESSION_ENDED,
    WITH_CHECKPOINT,
    degraded,
    restored,
    saved,
    session_started,
)
from tests.domain.agent.story import RUNNING, given


@pytest.mark.parametrize(
    ("past", "report"),
    [
        (RUNNING, session_started()),
        (WITH_CHECKPOINT, saved()),
        ((*SAVED, restored()), ROLLED_BACK),
        (RECOVERED_PROCESS, RECOVERED),
        (AGENT_ENDED, SESSION_ENDED),
        (OPEN, degraded()),
        ((*OPEN, degraded()), RESTORED),
    ],
    ids=lambda value: getattr(value, "type", ""),
)
def test_the_task_is_the_sessions(past: tuple[Event, ...], report: Report) -> None:
    given(*past).when(replace(report, task_id="T-9")).then(report)
