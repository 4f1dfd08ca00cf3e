"""Where the tables of the read model are kept as they were made, for the files that hold its layout."""

from __future__ import annotations

from pathlib import Path

from l02.projections.tables.database import SCHEMA_VERSION

CREATED = Path(__file__).with_name("created")


def table_file(name: str) -> Path:
    return CREATED / f"{name}.{SCHEMA_VERSION}.sql"
