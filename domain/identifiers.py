"""Ids become tokens of NATS subjects and keys of buckets, so what they may contain is decided in this one place."""

from __future__ import annotations

import re

from l02.domain.errors import ErrorCode, Failure

MAX_ID_LENGTH = 128
_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_ID_LENGTH}}}")


def is_id(value: str) -> bool:
    """Whether `value` can be an id."""
    return _ID.fullmatch(value) is not None


def require_id(value: str, path: str) -> str:
    """Return `value` if it can be an id; raise E2110 naming the field `path` if not."""
    if is_id(value):
        return value
    shown = value if len(value) <= 40 else value[:40] + "…"
    raise Failure(
        ErrorCode.COMMAND_INVALID,
        f"{shown!r} is not an id: use 1 to {MAX_ID_LENGTH} letters, digits, '-' or '_'",
        path,
    )
