"""What wakes an agent's runner: work that is heard of late, behind a signal that was heard of at once."""

from __future__ import annotations

from typing import Any, cast

from l02.handlers.executor.runner import AgentRunner

NOTHING = cast(Any, None)


async def test_a_signal_wakes_only_who_waits_for_one_and_hides_no_work_that_is_heard_of_later() -> None:
    runner = AgentRunner(NOTHING, "a1")
    pulse = runner._news.pulse.next()
    runner.tell(7)
    assert pulse.is_set() and not runner._woken.is_set()
    runner.wake(6)
    assert runner._woken.is_set() and runner._news.sequence == 7
    runner._woken.clear()
    pulse = runner._news.pulse.next()
    for sequence in (6, 7):
        runner.tell(sequence)
    runner.wake(6)
    assert not pulse.is_set() and not runner._woken.is_set()
    runner.wake(8)
    assert pulse.is_set() and runner._woken.is_set() and runner._news.sequence == 8
