"""Upcasters: an event that was stored in an earlier shape is read in today's. What is stored is never rewritten.

When the shape of an event changes, its `schema_version` grows by one and a step is added here that makes the data of
the version before into data of the new one. Steps are pure, chained one version at a time, and stay for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from l02.domain.kernel.aggregate import Step
from l02.domain.kernel.message import Event


def _without_new_limits(data: dict[str, Any]) -> dict[str, Any]:
    """Agents of before were never suspended for idleness or killed for silence, and their owners do not expect it."""
    spec = data["spec"]
    none = {"suspend_idle_after_seconds": None, "hung_after_seconds": None}
    return data | {"spec": spec | {"lifecycle": spec["lifecycle"] | none}}


def _never_held(data: dict[str, Any]) -> dict[str, Any]:
    return data | {"held": False}


def _without_detail(data: dict[str, Any]) -> dict[str, Any]:
    """A code of the agent's own stood in `code`; whoever reads it there knows that."""
    return data | {"detail": None}


def _without_the_new_field(data: dict[str, Any]) -> dict[str, Any]:
    """What is left out was not asked for."""
    return data


UPCASTERS: dict[tuple[str, int], Step] = {
    ("agent.spawn.requested", 1): _without_new_limits,
    ("agent.spawn.requested", 2): _without_the_new_field,
    ("agent.termination.requested", 1): _without_the_new_field,
    ("agent.execution.started", 1): _without_the_new_field,
    ("agent.execution.inherited", 1): _without_the_new_field,
    ("agent.execution.reopened", 1): _without_the_new_field,
    ("agent.tool.called", 1): _without_the_new_field,
    ("agent.effect.recorded", 1): _without_the_new_field,
    ("agent.execution.failed", 1): _never_held,
    ("agent.execution.failed", 2): _without_detail,
    ("agent.execution.failed", 3): _without_the_new_field,
    ("agent.execution.completed", 1): _without_the_new_field,
}
"""By event type and the schema version that the step starts from."""


class Upcasters:
    """The steps of a set of event types."""

    def __init__(self, event_types: Mapping[str, type[Event]], steps: Mapping[tuple[str, int], Step]) -> None:
        """Raises ValueError unless there is exactly one step for each version that was ever stored but the last."""
        needed = {(name, version) for name, event in event_types.items() for version in range(1, event.schema_version)}
        if needed != steps.keys():
            raise ValueError(
                f"upcasters are missing: {sorted(needed - steps.keys())}, "
                f"or lead to no version: {sorted(steps.keys() - needed)}"
            )
        self._steps = dict(steps)
        self._newest = {name: event.schema_version for name, event in event_types.items()}

    def upcast(self, event_type: str, schema_version: int, data: dict[str, Any]) -> dict[str, Any]:
        """`data` of an event as its type has it today; raises what a step raises on data it was not made for."""
        for version in range(schema_version, self._newest[event_type]):
            data = self._steps[event_type, version](data)
        return data
