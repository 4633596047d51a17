"""The model churn with CSV files as its source, and what a load of its window gives."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pandas as pd

from harness.project import CHURN
from pipeline.data import source as source_rows
from pipeline.data import sql, unread
from pipeline.settings.models import Model

HEADER = "customer,seen_at,spend,calls,plan,left,decided_at"
ROW = "c{0},2024-02-1{1} 10:00:00,{2},4,plus,0,2024-02-20"


def model(**source: Any) -> Model:
    """The model churn with these keys of its source, by default data/*.csv; None leaves a key out."""
    block = copy.deepcopy(CHURN)
    source = {"query": None, "files": ["data/*.csv"], **source}
    block["source"] = {k: v for k, v in {**block["source"], **source}.items() if v is not None}
    return Model.model_validate(block)


def load(root: Path, of: Model | None = None) -> tuple[pd.DataFrame, unread.UnreadTimes]:
    """(the rows of the window, those whose event time is unread) of the model `of`."""
    of = of or model()
    with sql.connect(root) as connection:
        start = of.as_of - pd.Timedelta(days=of.source.window_days).to_pytimedelta()
        source_rows.load(connection, of.source, of.training, start, of.as_of, "churn")
        times = unread.times(connection, of.source.event_time)
        source_rows.keep_window(connection, of.source, start, of.as_of)
        rows = connection.execute(f"SELECT * FROM rows ORDER BY {sql.quoted(of.source.key)}").df()
    return rows, times


def write(folder: Path, content: str | bytes, name: str = "one.csv") -> Path:
    """Writes data/`name` below `folder`."""
    path = folder / "data" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def lines(*spends: str, header: str = HEADER) -> str:
    """A CSV with a row for each text of `spends`, in the window."""
    return "\n".join([header, *(ROW.format(i, i % 10, spend) for i, spend in enumerate(spends))]) + "\n"
