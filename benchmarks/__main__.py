"""`make bench`: print all figures, ours and our peers', taken in one run on this machine.

`--large` adds the stream of a million events, which takes minutes. `--quick` only shows that everything works. `--only`
takes one group of the comparisons, and neither the rest nor the node alone.
"""

from __future__ import annotations

import argparse
import asyncio
import os

from benchmarks.checkpoint_rows import checkpoints
from benchmarks.contest import servers
from benchmarks.measure import Row, machine
from benchmarks.node import measure_node
from benchmarks.peer_venv import install_peers
from benchmarks.recovery import measure_recovery
from benchmarks.rows import FULL, QUICK, Sizes, appends, growth, loads, projections
from benchmarks.step_rows import commands, steps

# Each on fresh servers.
_GROUPS = {
    "appends": appends,
    "projections": projections,
    "loads": loads,
    "commands": commands,
    "steps": steps,
    "checkpoints": checkpoints,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--large", action="store_true", help="also a stream of 1,000,000 events over 100,000 agents")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: the figures mean nothing")
    parser.add_argument("--no-node", action="store_true", help="leave out the node alone: idleness, spawns, latencies")
    parser.add_argument("--only", choices=_GROUPS, help="nothing but this group of the comparisons")
    arguments = parser.parse_args()
    venv = install_peers()
    print(machine())
    print(f"peers: {venv.versions()}{'' if venv.has_restate else '; no Restate: its server needs npm'}")
    print(f"load of the machine before: {os.getloadavg()[0]:.2f}; medians; the ratio is l02 divided by the peer")
    names = [arguments.only] if arguments.only else list(_GROUPS)
    asyncio.run(_compare(names, QUICK if arguments.quick else FULL))
    if arguments.only:
        return
    if arguments.large:
        size = (20_000, 2_000) if arguments.quick else (1_000_000, 100_000)
        _show(asyncio.run(growth(*size)))
    if not arguments.no_node:
        for figure in [*measure_node(), *measure_recovery()]:
            print(figure, flush=True)


async def _compare(names: list[str], sizes: Sizes) -> None:
    for name in names:
        async with servers() as on:
            _show(await _GROUPS[name](on, sizes))


def _show(rows: list[Row]) -> None:
    for row in rows:
        print(row, flush=True)


if __name__ == "__main__":
    main()
