"""What becomes known of an execution, on its way to disk: in order, and what comes during an append in the next one.

Nobody waits for it but who must not act before it is there: `stored` is asked before anything leaves.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import structlog
from msgspec import Struct

from l02.bus.background.news import Pulse
from l02.bus.log.repository import Repository
from l02.domain.agent.state import AgentState
from l02.domain.agent.work.effects import StepsRecorded
from l02.domain.errors import ErrorCode, Failure
from l02.domain.kernel.message import Command, Context, Report
from l02.domain.weight import footprint

_EVENT_BYTES = 256 * 1024
"""Of steps that were told one after another and go into one event."""
_MOST_WAITING, _MOST_WAITING_BYTES = 1000, 1024 * 1024
"""When more wait to be stored, the agent waits too: it is not read on."""
_MOST_TOGETHER, _MOST_BYTES_TOGETHER = 500, 256 * 1024
"""Records that are decided one after another without a turn for others."""
_MOST_MEMORY = 128 * 1024 * 1024
"""Bytes that the node keeps of one execution's record: the agent cannot have it keep more, whatever its own limits."""
_KEPT_SECONDS = 0.02
"""So long steps wait at most for what they can be stored with."""
_CLOSE_SECONDS = 5.0
_REFUSALS = (ErrorCode.NOT_AUTHORIZED, ErrorCode.TOKEN_BUDGET_EXCEEDED)
_log = structlog.get_logger()


class RecordRefused(Exception):
    """A record does not fit what is on disk: what runs here goes on from something else. It is done with."""


class _Tried(Command, frozen=True, kw_only=True):
    """A report that may be refused for what is not its agent's fault: the rest is recorded all the same."""

    report: Report
    refusals: list[Failure]

    def decide(self, state: Any, context: Context, /) -> Sequence[Any]:
        """As the report, or nothing."""
        self.refusals.clear()
        try:
            return list(self.report.decide(state, context))
        except Failure as failure:
            if failure.code not in _REFUSALS:
                raise
            self.refusals.append(failure)
            return []


class _Record(Struct, frozen=True):
    report: Report | _Tried
    incarnation: int
    steps_bytes: int
    bytes: int


class Records:
    """Those of one execution, as long as this node has it. `on_stored` is called after each append."""

    def __init__(self, agents: Repository[AgentState], agent_id: str, execution_id: str, incarnation: int) -> None:
        """`incarnation` is the agent's process with which this node's work on it begins: its word counts from there."""
        self._agents = agents
        self._agent_id = agent_id
        self._execution_id = execution_id
        self._incarnation = incarnation
        self._waiting: deque[_Record] = deque()
        self._waiting_bytes = 0
        self.footprint = 0
        """About the bytes of memory that the execution's record takes."""
        self._added = self._stored = 0
        self._progress = Pulse()
        self._writing: asyncio.Task[None] | None = None
        self._later: asyncio.TimerHandle | None = None
        self._kept_bytes = 0
        self._refusal: RecordRefused | None = None
        self.on_stored: Callable[[], None] = lambda: None
        self.on_refused: Callable[[RecordRefused], None] = lambda refusal: None

    @property
    def is_stored(self) -> bool:
        """Whether all that was added is on disk."""
        return self._stored == self._added

    def add(
        self, report: Report, incarnation: int | None = None, *, steps_bytes: int = 0, steps_footprint: int = 0
    ) -> None:
        """Have it stored after all that was added before. It is for nothing once a record has been refused.

        `incarnation` is the process whose word it is, if it is not the node's own; `steps_bytes` how long steps are,
        and `steps_footprint` what they take of memory: they can wait for what comes next, as nobody waits for them.
        """
        size = steps_bytes
        if not steps_bytes:
            raw = msgspec.json.encode(report)
            size, steps_footprint = len(raw), footprint(raw)
        self.footprint += steps_footprint
        self._add(_Record(report, self._incarnation if incarnation is None else incarnation, steps_bytes, size))

    def _add(self, record: _Record) -> None:
        self._added += 1
        if self._refusal is not None:
            return
        self._waiting.append(record)
        self._waiting_bytes += record.bytes
        steps_bytes = record.steps_bytes
        self._kept_bytes += steps_bytes
        if not steps_bytes or self._kept_bytes >= _EVENT_BYTES:
            self._begin()
        elif self._later is None:
            self._later = asyncio.get_running_loop().call_later(_KEPT_SECONDS, self._begin)

    async def try_to(self, report: Report) -> None:
        """Have it stored after all that was added before, and wait for that; Failure E2114 or E2072 if it may not be:
        then it is not, and all else is.
        """
        tried = _Tried(report=report, refusals=[])
        self._add(_Record(tried, self._incarnation, 0, 0))
        await self.stored()
        for refusal in tried.refusals:
            raise refusal

    def require_space(self) -> None:
        """Failure E2115 if the execution has too much on record to go on."""
        if self.footprint > _MOST_MEMORY:
            raise Failure(
                ErrorCode.PAYLOAD_TOO_LARGE,
                f"what the execution has on record takes {self.footprint:,} bytes of memory, at most {_MOST_MEMORY:,} "
                "may be: end it sooner, and go on in another",
            )

    async def room(self) -> None:
        """Wait until so little is left to be stored that more may be said."""
        while self._is_full and self._refusal is None:
            self._begin()
            await self._progress.next().wait()

    @property
    def _is_full(self) -> bool:
        return self._added - self._stored > _MOST_WAITING or self._waiting_bytes > _MOST_WAITING_BYTES

    async def stored(self) -> None:
        """Wait until all that was added so far is on disk; RecordRefused if it never will be."""
        wanted = self._added
        self._begin()
        while True:
            if self._refusal is not None:
                raise self._refusal
            if self._stored >= wanted:
                return
            progress = self._progress.next()
            await progress.wait()

    async def close(self) -> None:
        """Let what is on its way come to its end, if that takes no time; nothing more is stored afterwards."""
        self._begin()
        self._refusal = self._refusal or RecordRefused("the execution is let go")
        if self._writing is not None:
            await asyncio.wait({self._writing}, timeout=_CLOSE_SECONDS)
            self.abandon()

    def abandon(self) -> None:
        """Leave what is under way."""
        if self._writing is not None:
            self._writing.cancel()

    def _begin(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
        self._kept_bytes = 0
        if self._waiting and self._writing is None and self._refusal is None:
            self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._waiting:
                together = self._take()
                incarnation = together[0].incarnation
                reports = _joined(together)
                await self._agents.record_all(self._agent_id, reports, self._execution_id, incarnation=incarnation)
                self._waiting_bytes -= sum(record.bytes for record in together)
                self._stored += len(together)
                self.on_stored()
                self._progress.send()
        except Failure as failure:
            self._refuse(RecordRefused(str(failure)))
        except Exception as error:
            _log.exception("recording failed", agent_id=self._agent_id, execution_id=self._execution_id)
            self._refuse(RecordRefused(repr(error)))
        finally:
            self._writing = None

    def _take(self) -> list[_Record]:
        """The next that are one process's word and not too many together; one at least."""
        together = [self._waiting.popleft()]
        size = together[0].bytes
        while self._waiting and len(together) < _MOST_TOGETHER:
            record = self._waiting[0]
            size += record.bytes
            if record.incarnation != together[0].incarnation or size > _MOST_BYTES_TOGETHER:
                break
            together.append(self._waiting.popleft())
        return together

    def _refuse(self, refusal: RecordRefused) -> None:
        self._waiting.clear()
        self._refusal = refusal
        self._progress.send()
        self.on_refused(refusal)


def _joined(records: list[_Record]) -> list[Report | _Tried]:
    """The reports, with steps that follow one another in one event while it has room."""
    reports: list[Report | _Tried] = []
    size = 0
    for record in records:
        report, last = record.report, reports[-1] if reports else None
        size += record.steps_bytes
        if isinstance(report, StepsRecorded) and isinstance(last, StepsRecorded) and size <= _EVENT_BYTES:
            reports[-1] = StepsRecorded(execution_id=report.execution_id, steps=(*last.steps, *report.steps))
        else:
            reports.append(report)
            size = record.steps_bytes
    return reports
