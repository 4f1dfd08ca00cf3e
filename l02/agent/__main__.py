"""`python -m l02.agent FILE`: shows an author what a file offers, without running it as an agent."""

from __future__ import annotations

import argparse
import sys

import msgspec

from l02.agent.loader import LoadError, load
from l02.bus.wire.agent.protocol import PROTOCOL, Hello


def main() -> int:
    """Exit status: 0, or 1 when the file cannot be loaded."""
    parser = argparse.ArgumentParser(
        prog="python -m l02.agent", description="Load an agent's file and show its name and its tools."
    )
    parser.add_argument("entrypoint", metavar="FILE", help="file.py or module:object")
    parser.add_argument("--json", action="store_true", help="print what the agent announces to its node")
    options = parser.parse_args()
    try:
        agent = load(options.entrypoint)
    except LoadError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    hello = Hello(PROTOCOL, agent.name, agent.descriptions())
    encoded = msgspec.json.encode(hello)
    if options.json:
        sys.stdout.write(msgspec.json.format(encoded, indent=2).decode() + "\n")
        return 0
    sys.stdout.write(f"agent {agent.name}\n")
    for tool in hello.tools:
        marks = " (idempotent)" if tool.idempotent else ""
        sys.stdout.write(f"  tool {tool.name}{marks}: {tool.description}\n")
        for name, schema in tool.schema["properties"].items():
            needed = "" if name in tool.schema["required"] else ", optional"
            sys.stdout.write(f"    {name}{needed}: {msgspec.json.encode(schema).decode()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
