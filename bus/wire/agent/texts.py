"""How long a text may be that an agent or a server says: longer ones for people are cut, streamed ones are split."""

from __future__ import annotations

from collections.abc import Iterator

MESSAGE_BYTES = 8 * 1024
"""Bytes of a text for a person; a longer one is cut, and says so."""

CAUSE_BYTES = 4 * 1024
"""Bytes of why a process ended; the text of what comes of that holds it, and more."""

PIECE_CHARACTERS = 64 * 1024
"""Of a piece of streamed text: 384 KiB at most as JSON, and a stock NATS server takes messages of 1 MiB."""

_MARK_BYTES = 32


def cut(text: str, limit: int = MESSAGE_BYTES) -> str:
    """The text in at most `limit` bytes of UTF-8; where it was cut, that is said: `… (12 bytes cut)`."""
    if len(text) * 4 <= limit:
        return text
    raw = text.encode(errors="replace")
    if len(raw) <= limit:
        return text
    kept = raw[: limit - _MARK_BYTES].decode(errors="ignore")
    return f"{kept}… ({len(raw) - len(kept.encode())} bytes cut)"


def split(text: str) -> Iterator[str]:
    """Streamed text in pieces of at most `PIECE_CHARACTERS`, at least one; always at the same places."""
    for start in range(0, len(text) or 1, PIECE_CHARACTERS):
        yield text[start : start + PIECE_CHARACTERS]
