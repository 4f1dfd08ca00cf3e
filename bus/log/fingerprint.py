"""Of what a folded state depends on: one that other code has folded, or that has another shape, is none of ours.

The code is found by following imports, so that a room added to a fold is not forgotten here.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import msgspec

from l02.domain import upcasting
from l02.domain.aggregates import Aggregate

__all__ = ["fingerprint"]


def fingerprint(aggregate: Aggregate[Any], layout: int) -> str:
    """Of the shape of states and events, of the code that folds them, and of the layout in which states are kept."""
    state_type = type(aggregate.initial_state())
    parts = [
        f"{layout} {state_type.__module__}.{state_type.__qualname__}".encode(),
        msgspec.json.encode(msgspec.json.schema(state_type), order="sorted"),
        *(msgspec.json.encode(msgspec.json.schema(event), order="sorted") for event in aggregate.events),
        *(inspect.getsource(module).encode() for module in _folding(aggregate)),
    ]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]


def _folding(aggregate: Aggregate[Any]) -> list[ModuleType]:
    """The modules of the fold and of the upcasters, what they import of their own package, and so on; by name."""
    found: dict[str, ModuleType] = {}
    waiting = [sys.modules[aggregate.evolve.__module__], upcasting]
    while waiting:
        module = waiting.pop()
        if module.__name__ not in found:
            found[module.__name__] = module
            waiting += [sys.modules[name] for name in _imported(module) if _package(name) == _package(module.__name__)]
    return [found[name] for name in sorted(found)]


def _imported(module: ModuleType) -> Iterator[str]:
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name for name in names if name in sys.modules)


def _package(name: str) -> str:
    return name.partition(".")[0]
