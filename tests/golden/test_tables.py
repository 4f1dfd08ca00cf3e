"""The layout of the read model has another number when a table is made otherwise: else what stands there would stay."""

from __future__ import annotations

import pytest

from l02.projections.tables.definitions import TABLES
from tests.golden.tables import table_file


@pytest.mark.parametrize("name", sorted(TABLES))
def test_a_table_is_made_as_its_layout_says(name: str) -> None:
    assert table_file(name).exists() and table_file(name).read_text() == TABLES[name].create + "\n", (
        "raise SCHEMA_VERSION in projections/tables/database.py and run `python -m tests.golden.write`: the tables "
        "that earlier versions have made are filled anew then"
    )
