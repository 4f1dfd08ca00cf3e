"""What is said about an error of an author's code: what it is, and where in their own file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

MAX_ERROR_TEXT = 8192
"""Characters of an error's text that are passed on."""

_SDK = str(Path(__file__).parent)


def describe_error(error: BaseException, function: Callable[..., Any]) -> str:
    """`<type>: <text> (<file>:<line>)`, the line being the last one in the function's own file."""
    place = _place(error.__traceback__, function.__code__.co_filename)
    if isinstance(error, MemoryError):
        text = "MemoryError: the agent reached its memory limit (resource_limits.memory)"
    elif isinstance(error, BaseExceptionGroup):
        leaves = "; ".join(describe_error(leaf, function) for leaf in leaves_of(error))
        text = f"{type(error).__name__}: {leaves[:MAX_ERROR_TEXT]}"
    else:
        detail = _detail(error)
        text = f"{type(error).__name__}: {detail}" if detail else type(error).__name__
    return f"{text} ({place})" if place else text


def _detail(error: BaseException) -> str:
    """The error's own text, as what fits into a message: valid Unicode, of a bounded length."""
    try:
        text = str(error)
    except Exception as problem:  # an author's __str__ may do anything
        text = f"<its text cannot be made: {type(problem).__name__}>"
    return text[:MAX_ERROR_TEXT].encode(errors="backslashreplace").decode()


def leaves_of(error: BaseException) -> list[BaseException]:
    """The error, or those that a group of them holds."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves_of(inner)]
    return [error]


def _place(trace: TracebackType | None, own_file: str) -> str | None:
    """File and line of the last frame in the author's own file, else of the last one outside of the SDK."""
    own = other = None
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        place = f"{Path(file).name}:{trace.tb_lineno}"
        if file == own_file:
            own = place
        elif not file.startswith(_SDK):
            other = place
        trace = trace.tb_next
    return own or other
