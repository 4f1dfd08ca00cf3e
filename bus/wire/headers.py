"""Headers of a message, written at once, and taken apart only when somebody asks for one.

An event carries half a dozen of them, and whoever only folds it needs none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

_NAME = re.compile(r"[A-Za-z0-9-]+")


class LazyHeaders(Mapping[str, str]):
    """The headers in `raw`, lines that end with CRLF."""

    __slots__ = ("_parsed", "_raw")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._parsed: dict[str, str] | None = None

    def _headers(self) -> dict[str, str]:
        if self._parsed is None:
            self._parsed = parse_header_lines(self._raw)
        return self._parsed

    def __getitem__(self, name: str) -> str:
        return self._headers()[name]

    def get(self, name: str, default: Any = None) -> Any:
        """That of a mapping, at the cost of a dict's."""
        return self._headers().get(name, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._headers())

    def __len__(self) -> int:
        return len(self._headers())


def parse_header_lines(raw: bytes) -> dict[str, str]:
    """The headers by name; what is no header, as the line with the protocol's version, is left out."""
    headers = {}
    for line in raw.decode(errors="replace").split("\r\n"):
        name, separator, value = line.partition(":")
        if separator:
            headers[name.strip()] = value.strip()
    return headers


def header_block(headers: Mapping[str, str]) -> bytes | None:
    """The headers as they go over the wire; None if one is not of the plain kind and is to be looked at closely."""
    block = "NATS/1.0\r\n" + "".join([f"{name}: {value}\r\n" for name, value in headers.items()]) + "\r\n"
    lines = len(headers) + 2
    # A line break in a value would be a header that nobody has written.
    is_plain = block.count("\r") == block.count("\n") == lines and all(map(_is_plain_name, headers))
    return block.encode() if is_plain else None


@lru_cache(maxsize=256)
def _is_plain_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None
