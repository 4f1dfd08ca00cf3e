"""What of an agent is in a checkpoint."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from l02.bus.connection.bus import Bus
from l02.domain.agent.state import PendingCheckpoint
from l02.domain.agent.work.effects import RecordedStep
from l02.handlers.state.capture import parts_of
from tests.domain.agent.story import EXECUTING, given, steps_recorded, tool_called, words_counted


async def test_a_checkpoint_holds_the_work_in_hand_as_it_is_on_record() -> None:
    thread = RecordedStep(call=1, kind="thread", after=2)
    state = given(*EXECUTING, tool_called(1), steps_recorded(words_counted(2, after=1), thread)).state
    pending = PendingCheckpoint(checkpoint_id="k1", checkpoint_type="manual", node_id="n1")
    no_bus = cast(Bus, None)  # of a state without values, nothing is looked up
    parts = await parts_of(no_bus, state, 6, pending)
    (work,) = msgspec.json.decode(parts["executions"], type=list[dict[str, Any]])
    assert work == {
        "execution_id": "x1",
        "input": "how many commits?",
        "journal": [
            {
                "call": 1,
                "kind": "tool",
                "request": {"tool": "send_mail", "arguments": {"to": "bob"}},
                "ok": True,
                "result": "sent",
            },
            {
                "call": 2,
                "kind": "tool",
                "request": {"tool": "count_words", "arguments": {"text": "x"}},
                "ok": True,
                "result": 3,
                "after": 1,
            },
            {"call": 1, "kind": "thread", "request": {}, "ok": True, "result": None, "after": 2},
        ],
    }
