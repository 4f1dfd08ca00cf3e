"""A checkpoint's name in a store: `<store>:<agent>/<checkpoint>/<hash>`, so that no name ever has two contents."""

from __future__ import annotations

from typing import NamedTuple

from l02.domain.errors import ErrorCode, Failure


class Location(NamedTuple):
    """A location, taken apart; `sha256` is the hash that `Saved` has, hexadecimal."""

    store: str
    agent_id: str
    checkpoint_id: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.store}:{self.agent_id}/{self.checkpoint_id}/{self.sha256}"

    @classmethod
    def parse(cls, text: str, store: str) -> Location:
        """Of one of this store. Raises Failure (E2032) for anything else."""
        found, _, path = text.partition(":")
        parts = path.split("/")
        if found != store or len(parts) != 3:
            raise Failure(
                ErrorCode.RESTORE_FAILED,
                f"{text!r} is not in the store that this node uses ({store}): set L02_CHECKPOINT_STORAGE accordingly",
            )
        return cls(store, *parts)
