"""`make bench`: print all figures."""

from __future__ import annotations

from benchmarks.measure import machine
from benchmarks.node import measure_node


def main() -> None:
    """Measure and print."""
    print(machine())
    for figure in measure_node():
        print(figure)


if __name__ == "__main__":
    main()
