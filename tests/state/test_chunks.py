"""Where content is cut depends on the content around the cut, and on nothing else."""

from __future__ import annotations

import base64
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l02.handlers.state.stores.chunks import MAX_BYTES, MIN_BYTES, chunks_of
from tests.state.contents import conversation, noise

KIB = 1024
KINDS = {
    "text": conversation(4096 * KIB),
    "noise": noise(4096 * KIB),
    "base64": base64.b64encode(noise(3072 * KIB)),
    "numbers": json.dumps([*map(random.Random(1).gauss, [0.0] * 200_000)]).encode(),
    "one byte": bytes(4096 * KIB),
    "the same again": b'{"a": 1, "b": [1, 2, 3]}, ' * 160_000,
}


@pytest.mark.parametrize("content", KINDS.values(), ids=KINDS.keys())
def test_chunks_are_the_content_in_sizes_that_are_bounded(content: bytes) -> None:
    chunks = list(chunks_of([content]))
    assert b"".join(chunks) == content
    assert all(MIN_BYTES <= len(chunk) <= MAX_BYTES for chunk in chunks[:-1])
    assert 0 < len(chunks[-1]) <= MAX_BYTES


@pytest.mark.parametrize("kind", ["text", "noise", "base64", "numbers"])
@pytest.mark.parametrize("where", [0, 0.3, 0.77, 1])
def test_an_insertion_moves_no_cut_but_those_beside_it(kind: str, where: float) -> None:
    content = KINDS[kind]
    at = int(where * len(content))
    before = set(chunks_of([content]))
    after = list(chunks_of([content[:at] + b"something new" + content[at:]]))
    assert 1 <= len([chunk for chunk in after if chunk not in before]) <= 3
    assert len(after) > 20


@given(st.integers(0, 700), st.integers(0), st.lists(st.integers(1, 400 * KIB), max_size=20))
def test_it_does_not_matter_in_which_pieces_the_content_comes(kib: int, seed: int, lengths: list[int]) -> None:
    content = random.Random(seed).randbytes(kib * KIB)
    pieces, start = [], 0
    for length in lengths:
        pieces.append(content[start : start + length])
        start += length
    assert list(chunks_of([*pieces, content[start:]])) == list(chunks_of([content]))
