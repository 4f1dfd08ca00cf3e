import msgspec
import pytest
from msgspec.structs import replace

from l02.domain.agent.work.signals import MAX_PENDING_SIGNALS, Signal
from l02.domain.errors import ErrorCode
from l02.domain.kernel.message import Event
from tests.domain.agent.story import FAILED, PENDING, RUNNING, SUSPENDED, TERMINATED, TERMINATING, given, signalled

SIGNAL = Signal(name="approve", payload=True)


@pytest.mark.parametrize("past", [PENDING, RUNNING, SUSPENDED], ids=["pending", "running", "suspended"])
def test_happened(past: tuple[Event, ...]) -> None:
    given(*past).when(SIGNAL).then(signalled())


@pytest.mark.parametrize("body", [b'{"name":"approve"}', b'{"name":"approve","payload":null}'])
def test_a_payload_that_is_left_out_or_null_is_true(body: bytes) -> None:
    command = msgspec.json.decode(body, type=Signal)
    given(*RUNNING).when(replace(command)).then(signalled())


def test_none_is_ignored_each_counts() -> None:
    after = given(*RUNNING, signalled()).when(SIGNAL).then(signalled())
    assert len(after.state.signals) == 2


def test_refused_when_nobody_reads_them() -> None:
    full = [signalled()] * MAX_PENDING_SIGNALS
    given(*RUNNING, *full).when(SIGNAL).fails(ErrorCode.INVALID_STATE, "does not read them")


@pytest.mark.parametrize("sizes", [(1_000_000,) * 5, (4_100_000, 200_000), (4_200_000,)], ids=str)
def test_refused_when_they_are_too_large_together(sizes: tuple[int, ...]) -> None:
    *before, last = (replace(SIGNAL, payload="x" * size) for size in sizes)
    past = [*RUNNING]
    for signal in before:
        past.append(signalled(payload=signal.payload))
    given(*past).when(last).fails(ErrorCode.PAYLOAD_TOO_LARGE, "wait to be taken", "$.payload")


def test_taken_while_they_fit() -> None:
    past = [signalled(payload="x" * 1_000_000)] * 3
    given(*RUNNING, *past).when(SIGNAL).then(signalled())


def test_the_payload_must_be_readable_for_ever() -> None:
    deep: object = None
    for _ in range(101):
        deep = {"deeper": deep}
    given(*RUNNING).when(replace(SIGNAL, payload=deep)).fails(ErrorCode.COMMAND_INVALID, "100 deep", "$.payload")


@pytest.mark.parametrize("past", [TERMINATING, TERMINATED, FAILED], ids=["terminating", "terminated", "failed"])
def test_refused_by_one_that_ends(past: tuple[Event, ...]) -> None:
    given(*past).when(SIGNAL).fails(ErrorCode.INVALID_STATE, "nobody is left to hear it")


def test_the_dead_hold_no_signals() -> None:
    assert given(*RUNNING, signalled(), *FAILED[-1:]).state.signals == ()
    assert given(*RUNNING, signalled(), *TERMINATED[-2:]).state.signals == ()
