"""Every failure that leaves the runtime carries one of these codes, so that programs can tell failures apart.

Codes are stable: new ones are added, never renumbered. The catalogue with explanations is `docs/errors.md`.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["ErrorCode", "Failure"]


class ErrorCode(Enum):
    """An error code; its value is what stands on the wire, its member name is the wire's `name`."""

    TOOL_INVOCATION_FAILED = "E2001"
    TOOL_TIMEOUT = "E2002"
    CONTEXT_OVERFLOW = "E2003"
    STREAMING_ERROR = "E2004"
    EXECUTION_FAILED = "E2005"
    SPAWN_FAILED = "E2020"
    SPAWN_TIMEOUT = "E2021"
    TERMINATE_FAILED = "E2022"
    SUSPEND_FAILED = "E2023"
    RESUME_FAILED = "E2024"
    RESTART_LIMIT_EXCEEDED = "E2025"
    CHECKPOINT_CORRUPTED = "E2033"
    RUNTIME_CLASS_UNAVAILABLE = "E2040"
    SANDBOX_CREATION_FAILED = "E2041"
    SECURITY_POLICY_VIOLATION = "E2042"
    CPU_LIMIT_EXCEEDED = "E2070"
    MEMORY_LIMIT_EXCEEDED = "E2071"
    COMMAND_INVALID = "E2110"
    AGGREGATE_NOT_FOUND = "E2111"
    INVALID_STATE = "E2112"
    CONFLICT = "E2113"
    NOT_AUTHORIZED = "E2114"
    PAYLOAD_TOO_LARGE = "E2115"
    NONDETERMINISTIC_AGENT = "E2116"
    HANDLER_FAILED = "E2117"


class Failure(Exception):
    """A failure with its code, and a message that says what to do next.

    `path` names the offending field of a command or specification (`$.resource_limits.cpu`), if there is one.
    """

    def __init__(self, code: ErrorCode, message: str, path: str | None = None) -> None:
        super().__init__(f"{code.value} {code.name}: {message}")
        self.code = code
        self.message = message
        self.path = path
