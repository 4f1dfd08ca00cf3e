"""A run that goes on from what is on record does what the first one did, however quick or slow things are this time."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sdk.harness import agent
from tests.sdk.replaying import SOURCE, Journal, programs, run

_numbers = itertools.count()


def test_any_program_cut_anywhere(tmp_path: Path) -> None:
    """Whatever the agent had said and been told when its node died, the next run begins with exactly that."""
    with asyncio.Runner() as runner:
        context = agent(SOURCE, tmp_path)
        process = runner.run(context.__aenter__())

        async def record_and_replay(program: list[Any], seed: int, cuts: list[float]) -> None:
            journal = await run(process, f"x{next(_numbers)}", [seed, program], seed)
            output = None
            for n, cut in enumerate([*cuts, 1.0], 1):
                record, output = journal.until(round(cut * len(journal.entries))), journal.output
                journal = await run(process, f"x{next(_numbers)}", [seed + n, program], seed + n, record)
                _require_the_same(record, journal)
            assert journal.output == output

        @settings(max_examples=150, deadline=None)
        @given(
            program=programs(),
            seed=st.integers(0, 1 << 16),
            cuts=st.lists(st.floats(0, 1), min_size=1, max_size=3),
        )
        def check(program: list[Any], seed: int, cuts: list[float]) -> None:
            runner.run(record_and_replay(program, seed, cuts))

        try:
            check()
        finally:
            runner.run(context.__aexit__(None, None, None))


def _require_the_same(record: Journal, journal: Journal) -> None:
    """What was done before was done again, and nothing that is on record twice."""
    assert record.calls().items() <= journal.calls().items()
    begun, tools = record.own_tools(), journal.own_tools()
    assert all(tools[number] == begun[number] for number in begun.keys() & tools.keys())
    steps = [(step.kind == "thread", step.call) for step in journal.steps()]
    assert len(steps) == len({*steps})
    assert not journal.calls().keys() & {number for is_thread, number in steps if not is_thread}
    assert [step.after for step in journal.steps()] == sorted(step.after for step in journal.steps())
