"""A tool server that writes into a file what it is told, so that a test can count how often it was called."""

import sys
import time
from pathlib import Path

from mcp.server.mcpserver import MCPServer

server = MCPServer("ledger")
LEDGER = Path(sys.argv[1])


@server.tool(structured_output=False)
def note(text: str, seconds: float = 0.0) -> str:
    """Append a line, then take that many seconds."""
    with LEDGER.open("a") as file:
        file.write(f"{text}\n")
    time.sleep(seconds)
    return f"noted {text}"


server.run()
