"""The groups that a column forms of rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.gates.row_groups import groups_of

ROWS = pd.DataFrame(
    {
        "text": [*["a"] * 5, *["b"] * 3, "c", None, None, ""],
        "number": [*[1.0] * 6, *[2.0] * 4, np.nan, np.inf],
        "many": [*np.arange(11.0), np.nan],
    }
)


@pytest.mark.parametrize(
    ("column", "least_rows", "expected"),
    [
        ("text", 1, {"a": 5, "b": 3, "c": 1, "missing": 3}),
        ("text", 3, {"a": 5, "b": 3, "missing": 3}),
        ("text", 4, {"a": 5}),
        ("number", 1, {"1": 6, "2": 4, "missing": 2}),
        ("number", 5, {"1": 6}),
        ("many", 3, {}),
    ],
)
def test_groups_have_at_least_so_many_rows(column, least_rows, expected):
    """Each value, or tenth of a column of many numbers, with rows enough is a group; the rest makes no mask."""
    assert {group.value: int(group.rows.sum()) for group in groups_of(ROWS, column, least_rows)} == expected
