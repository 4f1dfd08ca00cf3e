"""Lists of any length, asked for page by page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
_PAGE = 500


async def all_pages(
    ask: Callable[[int, str | None], Awaitable[list[T]]], name: Callable[[T], str], *, limit: int | None = None
) -> list[T]:
    """All there are, or the first `limit`. `ask` gives at most so many that come after the one with that name.

    A page that is too large for a message is asked for by halves.
    """
    from l02.domain.errors import ErrorCode, Failure

    found: list[T] = []
    size = _PAGE
    while limit is None or len(found) < limit:
        wanted = size if limit is None else min(size, limit - len(found))
        try:
            page = await ask(wanted, name(found[-1]) if found else None)
        except Failure as failure:
            if failure.code is not ErrorCode.PAYLOAD_TOO_LARGE or wanted == 1:
                raise
            size = wanted // 2
            continue
        found += page
        if len(page) < wanted:
            break
    return found
