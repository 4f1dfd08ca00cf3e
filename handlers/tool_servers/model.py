"""Tools and calls, without what it takes to make them: this imports nothing heavy."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, Struct, UnsetType


class ToolInfo(Struct, frozen=True):
    """A tool as its server describes it; `schema` is the JSON schema of its arguments."""

    name: str
    description: str
    schema: dict[str, Any]


class ToolNotRun(Exception):
    """The call did not reach the server, so it is safe to try it again whatever the tool does."""


class ToolFailed(Exception):
    """The call reached the server and came to no result: the tool has run, or may have."""


class ToolRefused(ToolFailed):
    """The server is well, and answered the call with an error; `content` is all of it, if its message is not."""

    def __init__(self, message: str, content: Any | UnsetType = UNSET) -> None:
        super().__init__(message)
        self.content = content


class Request:
    """One call on its way: `sent` once its request has been handed to the server's pipe."""

    __slots__ = ("sent",)

    def __init__(self) -> None:
        self.sent = False
