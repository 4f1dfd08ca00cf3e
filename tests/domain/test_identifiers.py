"""Ids stand in subjects and keys, so nothing gets through that would change what a subject means."""

from __future__ import annotations

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from l02.domain.errors import ErrorCode, Failure
from l02.domain.identifiers import MAX_ID_LENGTH, require_id

ALPHABET = string.ascii_letters + string.digits + "-_"


@given(st.text(ALPHABET, min_size=1, max_size=MAX_ID_LENGTH))
def test_an_id_comes_back(text: str) -> None:
    assert require_id(text, "$.id") == text


@given(st.text())
@example("")
@example("a1\n")
@example("a.b")
@example("*")
@example(">")
@example("é")
@example("１")
@example("\0")
@example("\ud800")
@example("a" * MAX_ID_LENGTH)
@example("a" * (MAX_ID_LENGTH + 1))
def test_what_is_no_id_is_refused(text: str) -> None:
    fits = 1 <= len(text) <= MAX_ID_LENGTH and set(text) <= set(ALPHABET)
    if fits:
        assert require_id(text, "$.id") == text
    else:
        with pytest.raises(Failure) as caught:
            require_id(text, "$.id")
        assert (caught.value.code, caught.value.path) == (ErrorCode.COMMAND_INVALID, "$.id")


def test_a_long_one_is_not_repeated_whole() -> None:
    with pytest.raises(Failure) as caught:
        require_id("a" * 100_000, "$.id")
    assert len(caught.value.message) < 200
