"""No stored bit changes unnoticed, and what has changed is refused, never repaired or guessed."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l02.domain.errors import ErrorCode, Failure
from l02.handlers.state.checkpoint_store import CheckpointStore, Saved
from l02.handlers.state.settings import Compression
from l02.handlers.state.stores.compression import Damaged, pack, unpack
from l02.handlers.state.stores.content import PartsReader, pieces_of
from tests.state.conftest import Servers
from tests.state.contents import conversation, noise

COMPRESSIONS: tuple[Compression, ...] = ("gzip", "zstd")
REFUSED = (ErrorCode.CHECKPOINT_CORRUPTED, ErrorCode.RESTORE_FAILED)
PARTS = {"conversation": conversation(20_000), "seen": b"3"}


def unpacked(stored: bytes) -> bytes:
    return b"".join(unpack(stored))


def flipped(raw: bytes, byte: int, mask: int) -> bytes:
    return raw[:byte] + bytes([raw[byte] ^ mask]) + raw[byte + 1 :]


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("content", [conversation(2000), noise(500), b"", b"x"], ids=["text", "noise", "empty", "x"])
def test_every_bit_of_a_packed_chunk_counts(compression: Compression, content: bytes) -> None:
    packed = pack([content], compression)
    assert unpacked(packed) == content
    for byte in range(len(packed)):
        for bit in range(8):
            with pytest.raises(Damaged):
                unpacked(flipped(packed, byte, 1 << bit))


@given(st.binary(max_size=3000), st.sampled_from(COMPRESSIONS), st.data())
def test_what_is_not_whole_is_not_unpacked(content: bytes, compression: Compression, data: st.DataObject) -> None:
    packed = pack([content], compression)
    assert unpacked(packed) == content
    with pytest.raises(Damaged):
        unpacked(packed[: data.draw(st.integers(0, len(packed) - 1))])
    with pytest.raises(Damaged):
        unpacked(packed + data.draw(st.binary(min_size=1, max_size=10)))
    with pytest.raises(Damaged):
        unpacked(flipped(packed, data.draw(st.integers(0, len(packed) - 1)), data.draw(st.integers(1, 255))))


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_what_compression_makes_no_smaller_is_kept_as_it_is(compression: Compression) -> None:
    text, random_bytes = conversation(200_000), noise(200_000)
    assert len(pack([text], compression)) < 0.6 * len(text)
    assert len(pack([text + random_bytes], compression)) < 0.85 * (len(text) + len(random_bytes))
    for content in (random_bytes, random_bytes[:5000]):
        assert pack([content], compression).endswith(content)


def test_large_pieces_are_compressed_each_for_itself() -> None:
    pieces = [b"head", conversation(100_000), noise(100_000), b"", b"small", noise(10_000), conversation(20_000)]
    packed = pack(pieces, "gzip")
    assert unpacked(packed) == b"".join(pieces)
    assert pieces[1] in [*unpack(packed)] and pieces[2] in packed
    for byte in range(0, 200):
        with pytest.raises(Damaged):
            unpacked(flipped(packed, byte, 128))


@given(st.binary(max_size=200))
def test_anything_may_stand_in_the_store(raw: bytes) -> None:
    with pytest.raises(Damaged):
        unpacked(raw)


@given(st.dictionaries(st.text(max_size=5), st.binary(max_size=50), max_size=5), st.integers(1, 40), st.data())
def test_parts_are_read_in_any_pieces_or_refused(parts: dict[str, bytes], step: int, data: st.DataObject) -> None:
    content = b"".join(pieces_of(parts))
    reader = PartsReader()
    for start in range(0, len(content), step):
        reader.feed(content[start : start + step])
    assert reader.parts() == parts
    end = data.draw(st.integers(0, len(content)))
    reader = PartsReader()
    reader.feed(content[:end])
    try:
        assert reader.parts().items() <= parts.items()
    except ValueError:
        assert end < len(content)


async def refusal(store: CheckpointStore, saved: Saved) -> ErrorCode:
    with pytest.raises(Failure) as failure:
        await store.load(saved.storage_location, saved.sha256)
    return failure.value.code


@pytest.mark.parametrize("size", [20_000, 2_000_000])
async def test_every_flipped_byte_is_refused(servers: Servers, store: CheckpointStore, name: str, size: int) -> None:
    chance = random.Random(size)
    parts = {"conversation": noise(size), "seen": b"3"}
    saved = await store.save("a1", "c1", parts)
    kept = [piece for piece in await servers.pieces(name) if piece.where != "name"]
    for _ in range(60):
        piece = chance.choice(kept)
        await piece.replace(flipped(piece.raw, chance.randrange(len(piece.raw)), chance.randint(1, 255)))
        assert await refusal(store, saved) is ErrorCode.CHECKPOINT_CORRUPTED
        await piece.replace(piece.raw)
    assert await store.load(saved.storage_location, saved.sha256) == parts


@pytest.mark.parametrize("size", [20_000, 200_000, 2_000_000])
async def test_another_content_is_refused_however_whole_it_is(
    servers: Servers, store: CheckpointStore, name: str, size: int
) -> None:
    """Its checksum is right, so this is for the hash that the agent's events know."""
    saved = await store.save("a1", "c1", {"conversation": conversation(size), "seen": b"3"})
    content = {"conversation": conversation(size, seed=2), "seen": b"3"}
    other = pack(pieces_of(content), "gzip")
    assert unpacked(other) == b"".join(pieces_of(content))
    chunk = max((piece for piece in await servers.pieces(name) if piece.where == "chunk"), key=lambda it: len(it.raw))
    await chunk.replace(other)
    assert await refusal(store, saved) is ErrorCode.CHECKPOINT_CORRUPTED
    await chunk.replace(chunk.raw)
    assert (await store.load(saved.storage_location, saved.sha256))["seen"] == b"3"


async def test_a_flipped_byte_of_an_objects_description_gives_no_other_content(servers: Servers) -> None:
    """It has fields that do not matter (a time), so what matters is that nothing wrong comes out."""
    async with servers.opened("objects") as store:
        saved = await store.save("a1", "c1", PARTS)
        for piece in [piece for piece in await servers.pieces("objects") if piece.where == "name"]:
            refused = 0
            for byte in range(len(piece.raw)):
                await piece.replace(flipped(piece.raw, byte, 1))
                try:
                    assert await store.load(saved.storage_location, saved.sha256) == PARTS
                except Failure as failure:
                    assert failure.code in REFUSED
                    refused += 1
            await piece.replace(piece.raw)
            assert refused > len(piece.raw) / 2
        assert await store.load(saved.storage_location, saved.sha256) == PARTS
