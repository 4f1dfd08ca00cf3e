"""The answers of an execution in the order of its journal: an agent is given them in no other, whenever it runs.

An answer is due as soon as it is known, since this node's records are stored in the order in which they become known.
Only the answer of a checkpoint is recorded by another handler: while one is awaited, its place among the others is
known when they are stored.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Iterable, Sequence

from msgspec import UNSET

from l02.domain.agent.execution import JournalEntry
from l02.handlers.executor.journal.results import Result


class Answers:
    """Those of one run, to be given to one process; each once it is asked for."""

    def __init__(self, on_record: int, recorded: Iterable[JournalEntry], checkpoints: Collection[int]) -> None:
        """`recorded` are those among the `on_record` entries of the journal; `checkpoints` the calls that await one."""
        self._due: deque[tuple[int, JournalEntry | Result]] = deque((entry.call, entry) for entry in recorded)
        self._recorded = len(self._due)
        self._asked: set[int] = set()
        self._next = asyncio.Event()
        self._checkpoints = {*checkpoints}
        self._known: dict[int, Result] = {}
        """What waits for its place."""
        self._placed: set[int] = set()
        """Calls whose answer is due, and whose record has not been walked over yet."""
        self._walked = on_record

    @property
    def missing(self) -> JournalEntry | None:
        """What is on record, and was not asked for yet though it comes first."""
        if not self._recorded or self._due[0][0] in self._asked:
            return None
        entry = self._due[0][1]
        assert isinstance(entry, JournalEntry)
        return entry

    @property
    def is_ordered(self) -> bool:
        """Whether the place of each new answer is known at once."""
        return not self._checkpoints

    @property
    def is_asked(self) -> bool:
        """Whether the agent waits for an answer."""
        return bool(self._asked)

    def ask(self, call: int) -> None:
        """The process wants it."""
        self._asked.add(call)
        self._look()

    def add(self, call: int, result: Result) -> None:
        """It is known, and its record on its way."""
        if self._checkpoints:
            self._known[call] = result
        else:
            self._put(call, result)

    def await_checkpoint(self, call: int) -> None:
        """Its answer will stand in the journal, who knows where."""
        self._checkpoints.add(call)

    def place(self, journal: Sequence[JournalEntry]) -> None:
        """Look at what has been recorded meanwhile."""
        while self._walked < len(journal):
            entry = journal[self._walked]
            self._walked += 1
            if entry.after is not UNSET:
                continue
            if entry.call in self._placed:
                self._placed.discard(entry.call)
                continue
            self._checkpoints.discard(entry.call)
            self._due.append((entry.call, self._known.pop(entry.call, entry)))
        if not self._checkpoints:
            for call in [*self._known]:
                self._put(call, self._known.pop(call))
        self._look()

    async def next(self) -> tuple[int, JournalEntry | Result]:
        """The next one to give, once there is one that was asked for."""
        await self._next.wait()
        call, what = self._due.popleft()
        self._asked.discard(call)
        self._recorded = max(0, self._recorded - 1)
        self._look()
        return call, what

    def _put(self, call: int, result: Result) -> None:
        self._placed.add(call)
        self._due.append((call, result))
        self._look()

    def _look(self) -> None:
        if self._due and self._due[0][0] in self._asked:
            self._next.set()
        else:
            self._next.clear()
