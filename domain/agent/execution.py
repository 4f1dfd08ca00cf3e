"""One piece of work as its agent's state has it: what it has taken from the world, and what is under way for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

import msgspec
from msgspec import UNSET, Struct, UnsetType, field
from msgspec.structs import replace

from l02.domain.errors import ErrorCode, Failure
from l02.domain.inference import Drawn, Spending
from l02.domain.kernel.states import Growing
from l02.domain.spending.amounts import Amount
from l02.domain.spending.limits import LimitAction, LimitName

TOOL = "tool"
"""The kind of a tool's answer in a journal."""
MODEL = "model"
"""The kind of a model's answer in one."""
THREAD = "thread"
"""The kind of what a thread of the agent's came to: it is no call, and numbered apart from those."""


class SaidText(Struct, frozen=True, kw_only=True):
    """What an execution had streamed: how many pieces, and the beginning of their hash.

    `sha256` are the first 16 hex digits of that over the pieces, each as a JSON string.
    """

    pieces: int
    sha256: str


class Streamed(Struct, frozen=True, kw_only=True):
    """Where the text of a model's answer stands in what the execution has streamed.

    `n` is the number of its first piece of so many `pieces`; `own` pieces of the agent's own came before it.
    """

    n: int
    pieces: int
    own: int


class CountedInput(Struct, frozen=True, kw_only=True):
    """How many tokens a provider has counted of a request to its `model`."""

    tokens: int
    model: str


class JournalEntry(Struct, frozen=True, kw_only=True):
    """One recorded effect. Replayed to the agent, in the order of the journal, when the execution runs again.

    What the agent did itself says `after` how many answers of the node's it was taken in. A `thread` has a number
    among the threads for `call`. `text` is what it had streamed when it made the call, or took the step in, if that is
    known and there was any. `streamed` and `counted` belong to a model's answer.
    """

    call: int
    kind: str
    request: Any
    ok: bool
    result: Any
    after: int | UnsetType = UNSET
    text: SaidText | UnsetType = UNSET
    streamed: Streamed | UnsetType = UNSET
    counted: CountedInput | UnsetType = UNSET

    @property
    def place(self) -> tuple[bool, int]:
        """Which one it is: a thread (True) or a call, and its number."""
        return self.kind == THREAD, self.call

    def is_same(self, other: JournalEntry) -> bool:
        """Whether the other says the same in JSON, where 1 is neither 1.0 nor true; also when, if both say that."""
        if self.after != other.after and UNSET not in (self.after, other.after):
            return False
        said, known = ((one.kind, one.request, one.ok, one.result) for one in (self, other))
        return _encoder.encode(said) == _encoder.encode(known)


_encoder = msgspec.json.Encoder(order="sorted")


class Journal(Growing[JournalEntry]):
    """What an execution has taken from the world, in the order in which the agent took it in."""

    __slots__ = ()
    entry_type = JournalEntry

    @staticmethod
    def place_of(entry: JournalEntry) -> tuple[bool, int]:
        """A call and a thread may have the same number."""
        return entry.place

    def answer(self, call: int | None) -> JournalEntry | None:
        """What is on record of a call."""
        return self.at((False, call))


class Waiting(Struct, frozen=True, kw_only=True):
    """A sleep or a wait for a signal that has begun; `deadline` in seconds since 1970, None for ever."""

    kind: str
    request: Any
    deadline: float | None


class RequestedTool(Struct, frozen=True, kw_only=True):
    """A tool that must not be called twice, and is under way."""

    tool: str
    arguments: Any

    @property
    def request(self) -> Any:
        """As it stands in the journal when it has been called."""
        return {"tool": self.tool, "arguments": self.arguments}


class Approval(Struct, frozen=True, kw_only=True):
    """What a person says to a tool's call; `granted` is None while nobody has said anything."""

    server: str
    tool: str
    arguments: Any
    granted: bool | None = None
    reason: str | None = None
    by: str = ""

    def is_for(self, server: str, tool: str, arguments: Any) -> bool:
        """Whether it is about this very call."""
        return _encoder.encode((self.server, self.tool, self.arguments)) == _encoder.encode((server, tool, arguments))

    def require_granted(self) -> None:
        """Failure E2114 if it was denied."""
        if not self.granted:
            why = f": {self.reason}" if self.reason else ""
            raise Failure(ErrorCode.NOT_AUTHORIZED, f"{self.by} has denied the call of tool {self.tool!r}{why}")


class LostModelCall(Struct, frozen=True, kw_only=True):
    """An attempt to ask a model of which nobody knows what came: what was reserved for it is charged."""

    call: int
    attempt: int
    alias: str
    reserved: Amount
    drawn: tuple[Drawn, ...]


def lost_spending(lost: Iterable[LostModelCall]) -> Spending:
    """What is charged for them all."""
    return sum((call.reserved.spending for call in lost), Spending())


class AskedModel(Struct, frozen=True, kw_only=True):
    """A model that is asked, by the newest attempt; `request` is the SHA-256 of what it is asked.

    `reserved` is None once the attempt is settled and another has not begun.
    """

    attempt: int
    alias: str
    request: str
    reserved: Spending | None
    drawn: tuple[Drawn, ...]

    def lost(self, call: int) -> LostModelCall | None:
        """What is charged if nobody will ever say what came of it."""
        if self.reserved is None:
            return None
        reserved = Amount.of(self.reserved)
        return LostModelCall(call=call, attempt=self.attempt, alias=self.alias, reserved=reserved, drawn=self.drawn)


class Blocked(Struct, frozen=True, kw_only=True):
    """A call that waits, since a limit has not got what it may need: the agent's own, or that of `budget`.

    If the `action` is to ask a person, `denied_by` is who has said no, perhaps for a `reason`.
    """

    budget: str | None
    limit: LimitName
    needed: Amount
    action: LimitAction
    denied_by: str | None = None
    reason: str | None = None

    @property
    def asks(self) -> bool:
        """Whether a person is asked, and has not answered."""
        return self.action is LimitAction.ASK and self.denied_by is None


class Execution(Struct, frozen=True, kw_only=True):
    """A piece of work under way or in the queue. `spent` is what its models have used, as far as that is settled.

    `warned_percent` is how much of its time was used when that was said last.
    """

    execution_id: str
    input: Any
    awaited_by: str | None = None
    deadline: float | None = None
    journal: Journal = field(default_factory=Journal)
    waiting: dict[int, Waiting] = {}
    requested_tools: dict[int, RequestedTool] = {}
    approvals: dict[int, Approval] = {}
    asked_models: dict[int, AskedModel] = {}
    blocked: dict[int, Blocked] = {}
    spent: Spending = Spending()
    warned_percent: int = 0

    def has_recorded(self, call: int | None) -> bool:
        """Whether the answer of a call is on record."""
        return self.journal.answer(call) is not None

    @property
    def has_run(self) -> bool:
        """Whether a process has got so far with it as to ask for an effect."""
        begun = self.waiting or self.requested_tools or self.approvals or self.asked_models
        return bool(self.journal or begun)

    @property
    def lost(self) -> tuple[LostModelCall, ...]:
        """Calls of models that will never be heard of, if it ends now."""
        open_calls = (asked.lost(call) for call, asked in self.asked_models.items())
        return tuple(lost for lost in open_calls if lost is not None)

    @property
    def has_asked_models(self) -> bool:
        """Whether its tokens are those that models have counted."""
        return bool(self.asked_models) or any(entry.kind == MODEL for entry in self.journal)

    def settled(self) -> Self:
        """With no call of a model open, and all that was spent said: what is made again is another attempt."""
        asked = {call: replace(model, reserved=None, drawn=()) for call, model in self.asked_models.items()}
        return replace(self, asked_models=asked, blocked={}, spent=Spending())

    def answered(self, *entries: JournalEntry) -> Self:
        """With these in the journal: their calls are under way no more."""
        tools = {entry.call for entry in entries if entry.kind == TOOL}
        models = {entry.call for entry in entries if entry.kind == MODEL}
        others = {entry.call for entry in entries if entry.kind not in (TOOL, MODEL, THREAD)}
        return replace(
            self,
            journal=self.journal.plus(*entries),
            waiting={call: wait for call, wait in self.waiting.items() if call not in others},
            requested_tools={call: tool for call, tool in self.requested_tools.items() if call not in tools},
            approvals={call: one for call, one in self.approvals.items() if call not in tools},
            asked_models={call: model for call, model in self.asked_models.items() if call not in models},
            blocked={call: one for call, one in self.blocked.items() if call not in models},
        )
