import pytest
from msgspec.structs import replace

from l02.domain.agent.life.spawning import Spawn, SpawnRequested
from l02.domain.agent.state import Status
from l02.domain.errors import ErrorCode
from l02.domain.kernel.message import Event
from l02.domain.specification import AgentSpecification
from tests.domain.agent.story import FAILED, PENDING, RUNNING, SPEC, TERMINATED, given


def spawn(spec: AgentSpecification = SPEC, fleet_id: str | None = None) -> Spawn:
    return Spawn(spec=spec, fleet_id=fleet_id)


def requested(**fields: object) -> SpawnRequested:
    event = SpawnRequested(spec=SPEC, requested_by="alice", node_id="n1", incarnation=1, awaited_by="c1")
    return replace(event, **fields)


def test_happened() -> None:
    after = given().when(spawn()).then(requested())
    assert after.state.status is Status.PENDING


def test_the_outcome_may_be_wanted_at_once() -> None:
    given().when(replace(spawn(), wait="accepted")).then(requested(awaited_by=None))


def test_the_fleet_is_the_commands_or_else_the_specifications() -> None:
    spec = replace(SPEC, fleet="archive")
    given().when(spawn(spec)).then(requested(spec=spec, fleet_id="archive"))
    given().when(spawn(spec, "library")).then(requested(spec=spec, fleet_id="library"))


def test_a_fleet_has_an_id() -> None:
    given().when(spawn(fleet_id="a b")).fails(ErrorCode.COMMAND_INVALID, path="$.fleet_id")
    given().when(spawn(replace(SPEC, fleet="a.b"))).fails(ErrorCode.COMMAND_INVALID, path="$.spec.fleet")


def test_a_bad_specification_is_refused() -> None:
    nothing_to_run = replace(SPEC, entrypoint=None)
    given().when(spawn(nothing_to_run)).fails(ErrorCode.COMMAND_INVALID, "exactly one", "$.spec.entrypoint")


@pytest.mark.parametrize(
    ("past", "shown"),
    [(PENDING, "pending"), (RUNNING, "running"), (TERMINATED, "terminated"), (FAILED, "failed")],
)
def test_an_id_is_used_once(past: tuple[Event, ...], shown: str) -> None:
    given(*past).when(spawn()).fails(ErrorCode.INVALID_STATE, f"is {shown}; choose another id")


def test_with_a_state_to_begin_with() -> None:
    state = {"seen": 1, "picture": {"$bytes": "aGk="}}
    after = given().when(replace(spawn(), state=state)).then(requested(state=state))
    assert after.state.data == state


def test_a_state_has_bounds() -> None:
    deep: object = 1
    for _ in range(101):
        deep = [deep]
    given().when(replace(spawn(), state={"deep": deep})).fails(ErrorCode.COMMAND_INVALID, path="$.state")
    large = replace(spawn(), state={"large": "x" * (256 * 1024)})
    given().when(large).fails(ErrorCode.PAYLOAD_TOO_LARGE, path="$.state")
    reference = {"$object": "x", "sha256": "x", "size": 1}
    given().when(replace(spawn(), state={"k": reference})).fails(ErrorCode.COMMAND_INVALID, path="$.state.k")
