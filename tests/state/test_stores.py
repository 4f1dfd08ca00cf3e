"""What every store of checkpoints promises: the parts come back, what is common is stored once, limits hold."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable
from datetime import timedelta

import pytest

from l02.domain.errors import ErrorCode, Failure
from l02.handlers.state.checkpoint_store import CheckpointStore, Saved
from l02.handlers.state.stores import objects
from l02.handlers.state.stores.hashed import Chunk
from l02.handlers.state.stores.postgres import PostgresCheckpoints
from tests.state.conftest import STORES, Servers
from tests.state.contents import conversation, noise

MIB = 1024 * 1024
CONTENTS: dict[str, dict[str, bytes]] = {
    "nothing": {},
    "an empty part": {"conversation": b""},
    "small": {"conversation": b'[{"role": "user"}]', "journal": b"17", "seen": b"3"},
    "names of any kind": {"": b"1", "ключ/..": b"2", "a\0b": b"\0", "x" * 300: b"4"},
    "one chunk": {"conversation": conversation(300_000), "image": noise(200_000)},
    "many chunks": {"conversation": conversation(3 * MIB), "image": noise(2 * MIB), "seen": b"3"},
}


async def restored(store: CheckpointStore, saved: Saved) -> dict[str, bytes]:
    return await store.load(saved.storage_location, saved.sha256)


async def code_of(failing: Awaitable[object]) -> ErrorCode:
    with pytest.raises(Failure) as failure:
        await failing
    return failure.value.code


@pytest.mark.parametrize("parts", CONTENTS.values(), ids=CONTENTS.keys())
async def test_the_parts_come_back(store: CheckpointStore, parts: dict[str, bytes]) -> None:
    saved = await store.save("a1", "c1", parts)
    assert await restored(store, saved) == parts
    assert saved.size_bytes >= sum(map(len, parts.values()))


async def test_a_large_content_has_one_hash_and_any_compression_is_read(servers: Servers) -> None:
    parts = CONTENTS["many chunks"]
    hashes = set()
    for name in STORES:
        async with servers.opened(name, compression="gzip") as gzip, servers.opened(name, compression="zstd") as zstd:
            one, other = await gzip.save("a1", "c1", parts), await zstd.save("a2", "c2", parts)
            assert await restored(zstd, one) == await restored(gzip, other) == parts
            assert one.compressed_bytes != other.compressed_bytes
            hashes |= {one.sha256, other.sha256}
    assert len(hashes) == 1


async def test_a_small_content_has_the_hash_of_what_is_stored(
    store: CheckpointStore, servers: Servers, name: str
) -> None:
    saved = await store.save("a1", "c1", CONTENTS["one chunk"])
    stored = {hashlib.sha256(piece.raw).hexdigest() for piece in await servers.pieces(name) if piece.where == "chunk"}
    assert saved.sha256 in stored
    assert await restored(store, saved) == CONTENTS["one chunk"]


async def test_sizes_say_what_compression_gave(store: CheckpointStore, servers: Servers, name: str) -> None:
    text = await store.save("a1", "text", {"conversation": conversation(3 * MIB)})
    assert text.compressed_bytes < 0.6 * text.size_bytes
    before = await servers.chunk_bytes(name)
    noisy = await store.save("a1", "noise", {"image": noise(3 * MIB)})
    assert noisy.size_bytes < noisy.compressed_bytes < 1.001 * noisy.size_bytes
    assert noisy.compressed_bytes == pytest.approx(await servers.chunk_bytes(name) - before, rel=0.01)


@pytest.mark.parametrize("content", ["small", "one chunk", "many chunks"])
async def test_what_is_unchanged_is_stored_once(
    store: CheckpointStore, servers: Servers, name: str, content: str
) -> None:
    parts = CONTENTS[content]
    first = await store.save("a1", "c1", parts)
    stored = await servers.chunk_bytes(name)
    again, other = await store.save("a1", "c1", parts), await store.save("a1", "c2", parts)
    assert again == first and other.compressed_bytes == first.compressed_bytes
    # The second checkpoint has a list of its own.
    assert await servers.chunk_bytes(name) - stored <= (0 if name == "postgres" else 32 * 1024)
    assert await restored(store, other) == parts


async def test_a_small_change_of_a_large_state_costs_little(
    store: CheckpointStore, servers: Servers, name: str
) -> None:
    text, image = conversation(8 * MIB), noise(2 * MIB)
    await store.save("a1", "c1", {"conversation": text, "image": image})
    stored = await servers.chunk_bytes(name)
    middle = len(text) // 2
    changed = {"conversation": text[:middle] + b"inserted" + text[middle:], "added": b"1", "image": image}
    saved = await store.save("a1", "c2", changed)
    assert await servers.chunk_bytes(name) - stored < 600_000 < saved.compressed_bytes / 8
    assert await restored(store, saved) == changed


async def test_agents_share_nothing(store: CheckpointStore) -> None:
    """What one agent deletes and how long its state is kept is no other's concern."""
    parts = CONTENTS["many chunks"]
    mine, yours = await store.save("a1", "c1", parts), await store.save("a2", "c1", parts)
    await store.delete(mine.storage_location)
    assert await store.sweep(timedelta(0)) > 4 * MIB / 2
    assert await restored(store, yours) == parts


async def test_the_same_id_with_another_content_is_another_checkpoint(store: CheckpointStore) -> None:
    one, other = await store.save("a1", "c1", {"seen": b"1"}), await store.save("a1", "c1", {"seen": b"2"})
    assert await restored(store, one) == {"seen": b"1"} and await restored(store, other) == {"seen": b"2"}
    assert await store.locations("a1") == [one.storage_location, other.storage_location]
    assert await store.locations("a2") == []


@pytest.mark.parametrize("content", ["small", "many chunks"])
async def test_deleting_one_breaks_no_other(store: CheckpointStore, servers: Servers, name: str, content: str) -> None:
    saved = [await store.save("a1", f"c{n}", CONTENTS[content] | {"n": b"%d" % n}) for n in range(3)]
    for _ in range(2):
        await store.delete(saved[1].storage_location)
    await store.sweep(timedelta(0))
    assert await code_of(restored(store, saved[1])) is ErrorCode.RESTORE_FAILED
    for n in (0, 2):
        assert (await restored(store, saved[n]))["n"] == b"%d" % n
    assert await store.locations("a1") == [saved[0].storage_location, saved[2].storage_location]
    for n in (0, 2):
        await store.delete(saved[n].storage_location)
    await store.sweep(timedelta(0))
    assert await servers.pieces(name) == []


async def test_the_sweep_waits_for_those_who_may_be_saving(store: CheckpointStore) -> None:
    saved = await store.save("a1", "c1", CONTENTS["many chunks"])
    await store.delete(saved.storage_location)
    assert await store.sweep() == 0
    assert await store.sweep(timedelta(0)) > 0
    assert await store.sweep(timedelta(0)) == 0


async def test_saves_sweeps_and_deletes_at_once(store: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of several writers keeps its newest; a sweep that waits for as long as a save takes runs all the time."""
    monkeypatch.setattr(objects, "_FRESH", timedelta(0))
    text = conversation(3 * MIB)
    sweeping = asyncio.Event()

    async def sweep() -> None:
        while not sweeping.is_set():
            await store.sweep(timedelta(seconds=2))

    async def write(writer: int) -> Saved:
        kept: Saved | None = None
        for n in range(6):
            cut = (n % 3) * MIB
            saved = await store.save("a1", f"w{writer}-{n}", {"conversation": text[:cut] + b"%d" % n + text[cut:]})
            if kept is not None:
                await store.delete(kept.storage_location)
            kept = saved
        assert kept is not None
        return kept

    sweeper = asyncio.create_task(sweep())
    newest = await asyncio.gather(*(write(writer) for writer in range(4)))
    sweeping.set()
    await sweeper
    await store.sweep(timedelta(0))
    for saved in newest:
        assert len((await restored(store, saved))["conversation"]) == len(text) + 1
    assert sorted(await store.locations("a1")) == sorted(saved.storage_location for saved in newest)


async def test_too_large_is_refused(servers: Servers, name: str) -> None:
    async with servers.opened(name, limit=MIB) as store:
        assert await code_of(store.save("a1", "c1", {"image": bytes(MIB)})) is ErrorCode.CHECKPOINT_TOO_LARGE
        assert await store.locations("a1") == []
        await store.save("a1", "c1", {"image": bytes(MIB - 100)})


@pytest.mark.parametrize(
    "location", ["", "x", "postgres:a1/c1", "objects:a1/c1/00", "postgres:a1/c1/00", "postgres:a1/c1/xyz", "s3:a/b/c"]
)
async def test_nothing_is_there(store: CheckpointStore, location: str) -> None:
    assert await code_of(store.load(location, "00")) is ErrorCode.RESTORE_FAILED


async def test_a_chunk_that_is_swept_in_mid_save_is_stored_again(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL refuses the checkpoint that names it, and the save begins anew."""
    async with servers.opened("postgres") as store:
        assert isinstance(store, PostgresCheckpoints)
        keep, sweeps = store._store, 0

        async def kept_and_swept(agent_id: str, chunks: list[Chunk]) -> int:
            nonlocal sweeps
            size = await keep(agent_id, chunks)
            if sweeps < 2:
                sweeps += 1
                assert await store.sweep(timedelta(0)) > 0
            return size

        monkeypatch.setattr(store, "_store", kept_and_swept)
        saved = await store.save("a1", "c1", CONTENTS["many chunks"])
        assert sweeps == 2 and await restored(store, saved) == CONTENTS["many chunks"]
