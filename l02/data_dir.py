"""Where a node keeps its data when nobody says where: one answer for the node, the client and the command line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

DATA_DIR_VARIABLE = "L02_DATA_DIR"


def default_data_dir(environment: Mapping[str, str] | None = None) -> Path:
    """`$L02_DATA_DIR`, else `$XDG_DATA_HOME/l02`, else `~/.local/share/l02`.

    A relative XDG_DATA_HOME is ignored, as the XDG base directory specification asks.
    """
    variables = os.environ if environment is None else environment
    if chosen := variables.get(DATA_DIR_VARIABLE):
        return Path(chosen).expanduser().absolute()
    shared = variables.get("XDG_DATA_HOME", "")
    base = Path(shared) if shared.startswith("/") else Path.home() / ".local" / "share"
    return base / "l02"
