"""Saves checkpoints of a changing state, one after another, and says of each when it is kept."""

from __future__ import annotations

import asyncio
import itertools
import sys

import msgspec
import structlog

from l02.domain.errors import Failure
from tests.state.conftest import Servers
from tests.state.contents import conversation


async def main(name: str, postgres: str, nats: str, run: str) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    text = conversation(4 * 1024 * 1024)
    async with Servers(postgres, nats).opened(name) as store:
        for number in itertools.count():
            cut = number * 300_000 % len(text)
            parts = {"conversation": text[:cut] + b"%d" % number + text[cut:], "number": b"%d" % number}
            try:
                saved = await store.save("a1", f"{run}-{number}", parts)
            except Failure as failure:
                print(failure.code.value, flush=True)
            else:
                print(number, msgspec.json.encode(saved).decode(), flush=True)


asyncio.run(main(*sys.argv[1:]))
