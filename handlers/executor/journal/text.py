"""What an agent has streamed: an execution that runs again must say the same, as others have seen it."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

import msgspec
from msgspec import UNSET, UnsetType

from l02.domain.agent.execution import JournalEntry, SaidText
from l02.domain.errors import ErrorCode, Failure

_HASH_DIGITS = 16


class Text:
    """That of one run of an execution, held against the journal of those before it."""

    def __init__(self, journal: Iterable[JournalEntry]) -> None:
        self._recorded = {entry.text.pieces: entry.text.sha256 for entry in journal if entry.text is not UNSET}
        self._longest = max(self._recorded, default=0)
        self._pieces = 0
        self._hash = sha256()

    @property
    def said(self) -> SaidText | UnsetType:
        """All so far, if there is any."""
        return SaidText(pieces=self._pieces, sha256=self._digest) if self._pieces else UNSET

    def add(self, delta: str) -> None:
        """The agent says one more piece. Failure E2116 if so many pieces were something else before."""
        self._pieces += 1
        self._hash.update(msgspec.json.encode(delta))
        if self._recorded.get(self._pieces, self._digest) != self._digest:
            raise _another(f"its first {self._pieces} pieces of text were others")

    def require(self, call: int, recorded: SaidText | UnsetType) -> None:
        """Failure E2116 if something else is on record as said before that call. Earlier versions recorded nothing."""
        if recorded is not UNSET and recorded != self.said:
            raise _another(f"{recorded.pieces} pieces of text came before call {call}, and {self._pieces} do this time")

    def require_all(self) -> None:
        """It says no more. Failure E2116 if more is on record."""
        if self._pieces < self._longest:
            raise _another(f"it had said {self._longest} pieces of text, and ends after {self._pieces} this time")

    @property
    def _digest(self) -> str:
        return self._hash.hexdigest()[:_HASH_DIGITS]


def _another(what: str) -> Failure:
    return Failure(
        ErrorCode.NONDETERMINISTIC_AGENT,
        f"the execution ran before, and {what}; an agent must say the same when it gets the same answers "
        "(docs/agent-protocol.md)",
    )
