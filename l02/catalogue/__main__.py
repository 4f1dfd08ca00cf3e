"""`python -m l02.catalogue docs/` writes the catalogue into a folder."""

from __future__ import annotations

import sys
from pathlib import Path

from l02.catalogue import pages


def main() -> None:
    """Write the pages into the folder that the one argument names."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m l02.catalogue FOLDER")
    for name, text in pages().items():
        (Path(sys.argv[1]) / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
