"""Answers are given in the order in which they are on record, though most are given before they are."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from l02.domain.agent.execution import JournalEntry
from l02.handlers.executor.journal.answers import Answers
from l02.handlers.executor.journal.results import Result


def _entry(call: int, kind: str = "now") -> JournalEntry:
    return JournalEntry(call=call, kind=kind, request={}, ok=True, result=call)


def _step(call: int) -> JournalEntry:
    return JournalEntry(call=call, kind="now", request={}, ok=True, result=call, after=0)


async def _given(answers: Answers) -> list[int]:
    """All that can be given now."""
    calls = []
    with suppress(TimeoutError):
        while True:
            async with asyncio.timeout(0):
                calls.append((await answers.next())[0])
    return calls


class _Execution:
    """Calls are made and answered; their records are stored in order, but for those of checkpoints, any time later."""

    def __init__(self) -> None:
        self.journal: list[JournalEntry] = []
        self.answers = Answers(0, (), ())
        self.calls = 0
        self._open: list[int] = []
        self._queue: list[JournalEntry | None] = []
        self._checkpoints: list[int] = []
        self._wanted = 0

    def call(self) -> None:
        self.calls += 1
        self.answers.ask(self.calls)
        self._open.append(self.calls)

    def answer(self, which: int) -> None:
        if self._open:
            call = self._open.pop(which % len(self._open))
            self.answers.add(call, Result(True, call))
            self._queue.append(_entry(call))

    def checkpoint(self) -> None:
        self.calls += 1
        self.answers.ask(self.calls)
        self.answers.await_checkpoint(self.calls)
        self._queue.append(None)
        self._checkpoints.append(self.calls)

    def step(self) -> None:
        self.calls += 1
        self._queue.append(_step(self.calls))

    def store(self) -> None:
        if self._queue:
            entry = self._queue.pop(0)
            if entry is None:
                self._wanted += 1
            else:
                self.journal.append(entry)
            self._look()

    def store_checkpoint(self) -> None:
        if self._wanted:
            self._wanted -= 1
            self.journal.append(_entry(self._checkpoints.pop(0), "checkpoint"))
            self._look()

    def _look(self) -> None:
        if not self.answers.is_ordered:
            self.answers.place(self.journal)

    def end(self) -> None:
        while self._open:
            self.answer(0)
        while self._queue:
            self.store()
        while self._wanted:
            self.store_checkpoint()


@settings(deadline=None)
@given(
    acts=st.lists(
        st.tuples(
            st.sampled_from(["call", "call", "answer", "answer", "checkpoint", "step", "store", "store_checkpoint"]),
            st.integers(0, 5),
        ),
        max_size=40,
    )
)
async def test_they_are_given_in_the_order_of_the_journal(acts: list[tuple[str, int]]) -> None:
    execution, order = _Execution(), []
    for act, which in acts:
        if act == "answer":
            execution.answer(which)
        else:
            getattr(execution, act)()
        order += await _given(execution.answers)
    execution.end()
    order += await _given(execution.answers)
    assert order == [entry.call for entry in execution.journal if entry.after is UNSET]


async def test_at_once_where_nothing_else_can_come_between() -> None:
    answers = Answers(0, (), ())
    answers.ask(1)
    answers.add(1, Result(True, "now"))
    assert answers.is_ordered and await _given(answers) == [1], "though it is not on record yet"


async def test_what_is_on_record_comes_first_and_each_only_when_it_is_asked_for() -> None:
    answers = Answers(3, [_entry(2), _entry(1)], ())
    answers.add(3, Result(True, 3))
    answers.ask(1)
    assert _missing(answers) == 2 and answers.is_asked and await _given(answers) == []
    answers.ask(3)
    answers.ask(2)
    assert _missing(answers) is None and await _given(answers) == [2, 1, 3]
    answers.ask(4)
    assert _missing(answers) is None, "nothing is on record any more"


def _missing(answers: Answers) -> int | None:
    return None if answers.missing is None else answers.missing.call
