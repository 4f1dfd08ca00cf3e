"""The peers' own environment: their packages never come near the runtime's."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_VENV = _HERE.parent / ".venv-bench"
_RESTATE = "@restatedev/restate-server@^1.7"
_SHOWN = ("eventsourcing", "psycopg", "nats-py", "asyncpg", "langgraph", "langgraph-checkpoint-postgres", "dbos")
_RESTATE_SHOWN = ("restate-sdk", "hypercorn", "granian")


class PeerVenv:
    """Where the peers are installed."""

    python = _VENV / "bin" / "python"
    restate_server = _VENV / "npm" / "node_modules" / ".bin" / "restate-server"

    def versions(self) -> str:
        """Of the peers, as installed."""
        listed = subprocess.run([self.python, "-m", "pip", "list", "--format=json"], capture_output=True, check=True)
        found = {package["name"].lower(): package["version"] for package in json.loads(listed.stdout)}
        versions = [f"{name} {found[name]}" for name in _SHOWN]
        if self.has_restate:
            package = self.restate_server.parent.parent / "@restatedev" / "restate-server" / "package.json"
            versions.append(f"restate-server {json.loads(package.read_text())['version']}")
            versions += [f"{name} {found[name]}" for name in _RESTATE_SHOWN]
        return ", ".join(versions)

    @property
    def has_restate(self) -> bool:
        """Whether Restate's server could be installed; it comes from npm alone."""
        return self.restate_server.exists()


def install_peers() -> PeerVenv:
    """Install what `peers.txt` names, if that was not done already."""
    requirements = _HERE / "peers.txt"
    wanted = hashlib.sha256(requirements.read_bytes() + _RESTATE.encode()).hexdigest()
    stamp = _VENV / ".installed"
    if not stamp.exists() or stamp.read_text() != wanted:
        print("installing the peers into .venv-bench", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", _VENV], check=True)
        pip = [str(PeerVenv.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", str(requirements)], check=True)
        if shutil.which("npm"):
            npm = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(_VENV / "npm"), _RESTATE]
            subprocess.run(npm, check=True)
        stamp.write_text(wanted)
    return PeerVenv()
