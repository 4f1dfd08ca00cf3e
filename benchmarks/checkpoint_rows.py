"""Checkpoints put and got, beside LangGraph's PostgreSQL saver and beside asyncpg that only writes and reads the bytes.

Each is a state that was not seen before, so that no deduplication helps. Text is what agents have; noise is there to
show what remains where compression, ours and PostgreSQL's own, has nothing to win.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.contest import Servers, contest, ours, peer
from benchmarks.measure import Row
from benchmarks.rows import Sizes

_BARE = "asyncpg, bare bytea"
_LANGGRAPH = "LangGraph's saver"
_ZSTD, _SAVER = "zstd", "saver"
_TARGET = "<= 1.5x bare, <= 0.5x LangGraph"


async def checkpoints(on: Servers, sizes: Sizes) -> list[Row]:
    """Medians, one checkpoint at a time; ours compressed with gzip, the default, and with zstd."""
    rows = []
    for content in ("text", "noise"):
        for size in (64 * 1024, 1024 * 1024):
            options = {"postgres": on.postgres, "bytes": size, "content": content, "runs": sizes.lone_appends // 2}
            zstd = replace(ours("checkpoint", compression="zstd"), name=_ZSTD)
            saver = replace(ours("langgraph_checkpoint"), name=_SAVER)
            figures = await contest(
                [
                    ours("checkpoint", compression="gzip"),
                    zstd,
                    saver,
                    peer(_BARE, "asyncpg_bytea"),
                    peer(_LANGGRAPH, "langgraph_checkpoint"),
                ],
                options,
                sizes.rounds,
            )
            for verb in ("put", "get"):
                taken = {name: figures[name][f"{verb}_ms"] for name in figures}
                title = f"checkpoint, {size // 1024:,} KiB of {content}, {verb}, p50"
                peers = {name: taken[name] for name in (_BARE, _LANGGRAPH)}
                rows.append(Row(title, "ms", taken["l02"], peers, _TARGET))
                rows.append(Row("  with zstd", "ms", taken[_ZSTD], peers, ""))
                rows.append(Row("  through our saver for LangGraph", "ms", taken[_SAVER], peers, ""))
    return rows
