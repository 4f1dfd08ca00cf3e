"""Samples of what is said of an agent's resources, every field set."""

from __future__ import annotations

from l02.domain.agent.resources import ResourceExceeded, ResourceUsageSeen, ResourceWarned
from l02.domain.spending.limits import LimitName
from tests.golden.quotas import QUOTAS

RESOURCES = (
    ResourceUsageSeen(
        incarnation=1,
        cpu_seconds=12.5,
        cpu_cores=0.25,
        memory_bytes=52_428_800,
        memory_peak_bytes=104_857_600,
        tokens_consumed=4321,
    ),
    ResourceWarned(
        resource_type="execution_seconds",
        current_usage=48.5,
        limit=60.0,
        threshold_percent=80,
        execution_id="x1",
        incarnation=1,
        name=LimitName.COST_PER_DAY,
        reset_at=1_767_312_000.5,
    ),
    ResourceExceeded(
        resource_type="memory",
        limit=268_435_456,
        actual=272_629_760,
        action_taken="terminate",
        code="E2071",
        name=LimitName.COST_PER_DAY,
        reset_at=1_767_312_000.5,
    ),
    *QUOTAS,
)
