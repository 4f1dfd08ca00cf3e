"""What is too heavy is told by its length and signs alone, whatever text it is; what is in strings does not count."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l02.domain import weight
from l02.domain.weight import MAX_WEIGHT, is_too_heavy
from tests.domain.json_values import json_values

HEAVY = b"[" + b",".join([b"[]"] * (MAX_WEIGHT // 5)) + b"]"


@given(json_values)
def test_what_is_small_is_light(value: object) -> None:
    assert not is_too_heavy(msgspec.json.encode(value))


@given(st.binary())
def test_any_bytes_are_weighed(raw: bytes) -> None:
    assert is_too_heavy(HEAVY + b"," + raw.replace(b'"', b""))
    is_too_heavy(raw + HEAVY)


@given(st.text(alphabet='"\\[{:,1x\n', min_size=1, max_size=50))
def test_what_is_in_a_string_does_not_count(text: str) -> None:
    assert not is_too_heavy(msgspec.json.encode([text, "," * 2 * MAX_WEIGHT, text]))
    assert is_too_heavy(msgspec.json.encode([text, msgspec.Raw(HEAVY), text]))


@settings(max_examples=20)
@given(st.text(alphabet='"\\[,', min_size=1, max_size=9), st.integers(1, 40_000))
def test_it_does_not_matter_where_a_text_is_cut_for_that(text: str, size: int) -> None:
    said = msgspec.json.encode([text * (MAX_WEIGHT // len(text)), "," * MAX_WEIGHT])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(weight, "_PIECE_BYTES", size + len(said) // 100)
        assert not is_too_heavy(said)
        assert is_too_heavy(said[:-1] + b"," + HEAVY + b"]")


@pytest.mark.parametrize("digits", [4_000, 400_000])
def test_long_numbers_count_by_their_digits(digits: int) -> None:
    assert not is_too_heavy(b"[" + b",".join([b"1" * digits] * (MAX_WEIGHT // 2 // digits)) + b"]")
    assert is_too_heavy(b"[" + b",".join([b"1" * digits] * (2 * MAX_WEIGHT // digits)) + b"]")
