"""A task group wraps what went wrong in it; people are told what that was."""

from __future__ import annotations


def first_cause(error: BaseException) -> BaseException:
    """The error itself, or the first one in a group of errors."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
