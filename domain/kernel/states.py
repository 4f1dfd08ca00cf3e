"""What grows with an aggregate's past, and how a folded state becomes bytes and comes out of them again.

Snapshots, and whoever compares states, encode and decode them here.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Generic, Self, TypeVar, overload

import msgspec

S = TypeVar("S")
T = TypeVar("T")


class Growing(Sequence[T]):
    """Entries of a state. It never changes; `plus` makes one with more, which costs only what is added.

    It is a view of the beginning of a list that grows, so one that another has grown out of is copied when more is
    added to it. Grown in one thread at a time; read in any. Equal to a tuple of the same entries, and stored as that.
    """

    __slots__ = ("_length", "_shared")
    entry_type: ClassVar[type]

    def __init__(self, entries: Iterable[T] = ()) -> None:
        self._shared: _Shared[T] = _Shared()
        self._shared.add(entries, self.place_of)
        self._length = len(self._shared.entries)

    @staticmethod
    @abstractmethod
    def place_of(entry: Any) -> Hashable:
        """By what an entry is found."""

    def plus(self, *entries: T) -> Self:
        """With these added."""
        if not entries:
            return self
        is_newest = len(self._shared.entries) == self._length
        after = type(self)(() if is_newest else self)
        if is_newest:
            after._shared = self._shared
        after._shared.add(entries, self.place_of)
        after._length = self._length + len(entries)
        return after

    def at(self, place: Hashable) -> T | None:
        """The first entry that has this `place_of`."""
        position = self._shared.positions.get(place, self._length)
        return self._shared.entries[position] if position < self._length else None

    def as_tuple(self) -> tuple[T, ...]:
        """All of them."""
        return tuple(self._shared.entries[: self._length])

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[T]:
        return iter(self.as_tuple())

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...
    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        if isinstance(index, slice):
            return self.as_tuple()[index]
        return self._shared.entries[range(self._length)[index]]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Growing):
            return self is other or self.as_tuple() == other.as_tuple()
        return self.as_tuple() == other if isinstance(other, tuple) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.as_tuple()!r})"


class _Shared(Generic[T]):
    """What all that have grown out of one another look at: it is only ever added to."""

    __slots__ = ("entries", "positions")

    def __init__(self) -> None:
        self.entries: list[T] = []
        self.positions: dict[Hashable, int] = {}
        """Where the first entry of a place is."""

    def add(self, entries: Iterable[T], place_of: Any) -> None:
        for entry in entries:
            self.positions.setdefault(place_of(entry), len(self.entries))
            self.entries.append(entry)


def encode_state(state: object) -> bytes:
    """The JSON of a state, or of what holds one."""
    return _encoder.encode(state)


def state_decoder(kind: type[S]) -> msgspec.json.Decoder[S]:
    """Reads what `encode_state` has written of a state of this kind."""
    return msgspec.json.Decoder(kind, dec_hook=_decoded)


def _plain(value: Any) -> Any:
    if isinstance(value, Growing):
        return value.as_tuple()
    raise NotImplementedError(f"a state cannot hold a {type(value).__qualname__}")


def _decoded(kind: type, plain: Any) -> Any:
    if issubclass(kind, Growing):
        return kind(msgspec.convert(plain, tuple[kind.entry_type, ...]))  # type: ignore[name-defined]
    raise NotImplementedError(f"a state cannot hold a {kind.__qualname__}")


_encoder = msgspec.json.Encoder(enc_hook=_plain)
