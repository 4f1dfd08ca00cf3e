"""Headers of a message that are taken apart when somebody asks for one.

An event carries half a dozen of them, and whoever only folds it needs none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

__all__ = ["LazyHeaders", "parse_header_lines"]


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
