"""The face of the runtime.

Nothing is imported until it is asked for: `l02.agent` runs inside a sandbox, where the client and what it
stands on (the bus) neither exist nor may be loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from l02.client.client import Client

__all__ = ["Client"]


def __getattr__(name: str) -> object:
    if name == "Client":
        from l02.client.client import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
