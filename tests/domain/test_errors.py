"""Codes are a contract, and each says what it means and what to do."""

from __future__ import annotations

import re
from pathlib import Path

from l02.domain.errors import EXPLANATIONS, ErrorCode, Failure

RESERVED = frozenset(
    {
        ErrorCode.TERMINATE_FAILED,
        ErrorCode.SUSPEND_FAILED,
        ErrorCode.RESUME_FAILED,
        ErrorCode.SECURITY_POLICY_VIOLATION,
    }
)
"""Codes of the catalogue that this version never raises; their explanations say why."""


def test_codes_are_of_one_form_and_used_once() -> None:
    assert all(re.fullmatch(r"E2[0-9]{3}", code.value) for code in ErrorCode)
    assert len(ErrorCode.__members__) == len({code.value for code in ErrorCode})


def test_each_is_explained_in_their_order() -> None:
    assert list(EXPLANATIONS) == list(ErrorCode)
    for explanation in EXPLANATIONS.values():
        assert explanation.meaning.endswith(".")
        assert explanation.advice.endswith(".")


def test_a_failure_reads_well() -> None:
    failure = Failure(ErrorCode.INVALID_STATE, "resume it first", "$.id")
    assert str(failure) == "E2112 INVALID_STATE: resume it first"
    assert (failure.code, failure.message, failure.path) == (ErrorCode.INVALID_STATE, "resume it first", "$.id")


def test_every_code_is_raised_somewhere_or_reserved() -> None:
    root = Path(__file__).parents[2]
    rooms = ("domain", "bus", "handlers", "projections", "l02")
    sources = [path for room in rooms for path in (root / room).rglob("*.py") if path.name != "errors.py"]
    named = set(re.findall(r"ErrorCode\.([A-Z_]+)", "".join(path.read_text() for path in sources)))
    assert {code for code in ErrorCode if code.name not in named} == RESERVED
    assert {code for code in ErrorCode if EXPLANATIONS[code].meaning.startswith("Reserved: ")} == RESERVED
