import pytest
from msgspec.structs import replace

from l02.domain.agent.resources import ResourceUsageSeen, has_moved
from l02.domain.specification import ResourceLimits
from tests.domain.agent.story import RUNNING, SUSPENDED, given, restarted, spawn_requested, spawned
from tests.domain.agent.test_recover_process import AGAIN, RECOVER, recovered

SEEN = ResourceUsageSeen(
    incarnation=1,
    cpu_seconds=2.5,
    cpu_cores=0.5,
    memory_bytes=100 << 20,
    memory_peak_bytes=120 << 20,
    tokens_consumed=0,
)


def test_happened() -> None:
    given(*RUNNING).when(SEEN).then(SEEN)


def test_ignored_of_a_process_that_is_gone() -> None:
    given(*RUNNING).when(replace(SEEN, incarnation=2)).ignored()
    given(*RUNNING, restarted(), spawn_requested(2), spawned(2)).when(SEEN).ignored()


def test_ignored_when_it_should_have_no_process() -> None:
    given(*SUSPENDED).when(SEEN).ignored()


def test_what_was_seen_of_a_process_is_known_when_its_node_is_lost() -> None:
    after = given(*RUNNING, SEEN)
    used = replace(after.state.usage, cpu_seconds=2.5, memory_peak_bytes=120 << 20)
    after.when(RECOVER, node_id="n2").then(recovered(usage=used), AGAIN)


LIMITS = ResourceLimits(cpu="1", memory="1000Mi")


@pytest.mark.parametrize(
    ("changes", "moved"),
    [
        ({}, False),
        ({"cpu_seconds": 9.0, "memory_peak_bytes": 1 << 40}, False),
        ({"cpu_cores": 0.54}, False),
        ({"cpu_cores": 0.56}, True),
        ({"cpu_cores": 0.44}, True),
        ({"memory_bytes": 109 << 20}, False),
        ({"memory_bytes": 110 << 20}, True),
        ({"memory_bytes": 90 << 20}, True),
    ],
)
def test_a_tenth_is_worth_an_event(changes: dict[str, float], moved: bool) -> None:
    assert has_moved(LIMITS, SEEN, replace(SEEN, **changes)) is moved


def test_little_of_the_limit_is_not_worth_an_event_however_large_a_part_it_is() -> None:
    idle = replace(SEEN, cpu_cores=0.0, memory_bytes=9 << 20)
    assert not has_moved(LIMITS, None, idle)
    assert not has_moved(LIMITS, idle, replace(idle, cpu_cores=0.009, memory_bytes=18 << 20))
    assert has_moved(LIMITS, None, SEEN)
