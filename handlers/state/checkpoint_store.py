"""What the state manager asks of the place where checkpoints are kept; the places are in `stores`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Protocol

import msgspec


class Saved(msgspec.Struct, frozen=True):
    """Where a checkpoint is, and how to know it again.

    `size_bytes` is its whole content, `compressed_bytes` what that takes when nothing of it is shared with other
    checkpoints, `sha256` (hexadecimal) the hash of what is stored, or of the content if it is stored in several chunks;
    the same in every store.
    """

    storage_location: str
    size_bytes: int
    compressed_bytes: int
    sha256: str


class CheckpointStore(Protocol):
    """Keeps checkpoints, each a number of named parts, until they are deleted.

    What several checkpoints of an agent have in common is stored once. A save that was cut off leaves nothing that can
    be loaded, and is harmless to repeat.
    """

    async def save(self, agent_id: str, checkpoint_id: str, parts: Mapping[str, bytes]) -> Saved:
        """Keep the parts; when this returns they are on disk.

        The same id with another content is another checkpoint, with another location. Raises Failure: E2031 if the
        parts are larger than the store's limit, E2030 if they cannot be stored now.
        """

    async def load(self, storage_location: str, sha256: str) -> dict[str, bytes]:
        """The parts as they were saved.

        Raises Failure: E2033 if anything of what is stored has changed, E2032 if nothing is stored there (any more), or
        if the store does not answer.
        """

    async def delete(self, storage_location: str) -> None:
        """Forget a checkpoint, if it is there; no other one changes. Raises Failure (E2030) if the store is away."""

    async def locations(self, agent_id: str) -> list[str]:
        """Where the agent's checkpoints are, the oldest first. Raises Failure (E2032) if the store is away."""

    async def sweep(self, unused_for: timedelta = timedelta(hours=1)) -> int:
        """Remove what no checkpoint needs and nobody has stored in the last while; how many bytes that were.

        Safe beside saves in any process, if none takes longer than half of `unused_for`. Raises Failure (E2030) if the
        store is away.
        """
