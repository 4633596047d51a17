"""The answers of a version as one more column of the prediction log's profiles, in the buckets of its answers to the held-out rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipeline.monitoring.profiles.layout import ColumnLayout, Layout

# No feature has the name (see settings.columns).
ANSWERS = "prediction"


def with_answers(layout: Layout, kept: Mapping[str, Any], classes: Sequence[str] = ()) -> Layout:
    """The layout with the column; `kept` is what answer_shift keeps of the answers to the held-out rows. Without it nothing is counted."""
    if not kept or len(kept["shares"]) != (len(classes) if classes else len(kept["edges"]) + 1):
        return layout
    if classes:
        column = ColumnLayout(ANSWERS, "category", top=tuple(classes))
    else:
        edges = tuple(map(float, kept["edges"]))
        column = ColumnLayout(ANSWERS, "number", edges=edges, points=(*edges, edges[-1]) if edges else (0.0,))
    return replace(layout, columns=(*layout.columns, column))
