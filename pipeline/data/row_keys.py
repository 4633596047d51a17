"""The key of a row that its source gives none: made of its event time and its features.

The same row has the same key at the source, in a request and in the prediction log, however its cells are spelt and in whatever precision
its numbers are held: numbers count as float32, which the log has, and a category by one text for all spellings that any schema takes
for one value ("2.0" is "2", "yes" is "true"). So a key does not depend on the schema that happened to read the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import pandas as pd

from pipeline.serving.schema import Column, spelling
from pipeline.serving.schema.blocks import number_matrix
from pipeline.serving.schema.columns import Kind
from pipeline.settings.training import Training


def of_frame(rows: pd.DataFrame, times: pd.Series, training: Training) -> list[str | None]:
    """The keys of rows with the model's features, in neutral form or as the log has them; None without a time.

    `times` are event times in UTC.
    """
    numbers = _numbers(rows, training)
    texts = [rows[name].astype(object).where(rows[name].notna(), "").tolist() for name in sorted(training.categorical)]
    micros = times.astype("datetime64[us, UTC]")
    return _keys(micros.astype("int64").to_numpy(), micros.notna().to_numpy(), numbers, texts)


def _numbers(rows: pd.DataFrame, training: Training) -> np.ndarray:
    """float64 (rows, numbers): a time and a free text by their numbers, which the log has, and which are made of them at the source."""
    kinds: tuple[tuple[Kind, tuple[str, ...]], ...] = (
        ("number", training.numeric),
        ("datetime", training.datetime),
        ("text", training.text),
    )
    columns = [Column(name, kind, precision="float64") for kind, names in kinds for name in sorted(names)]
    blocks = [
        rows[list(column.matrix)].to_numpy("float64", na_value=np.nan)
        if {*column.matrix} <= {*rows.columns}
        else number_matrix(rows, [column])
        for column in columns
    ]
    return np.concatenate(blocks, axis=1) if blocks else np.empty((len(rows), 0))


def _keys(
    micros: np.ndarray, timed: np.ndarray, numbers: np.ndarray, texts: Sequence[Sequence[str]]
) -> list[str | None]:
    with np.errstate(over="ignore"):
        values = numbers.astype("<f4")
    # One NaN, and no -0.0.
    values = np.where(np.isnan(values), np.float32("nan"), values + np.float32(0)).astype("<f4")
    spelt = [_one_text_each(column) for column in texts]
    rows = zip(micros.astype("<i8").tolist(), timed.tolist(), values, *spelt, strict=True)
    return [_key(time, value.tobytes(), words) if has_time else None for time, has_time, value, *words in rows]


def _key(micros: int, numbers: bytes, words: Sequence[str]) -> str:
    text = "".join(f"{len(word)}:{word}" for word in words)
    return blake2b(micros.to_bytes(8, "little", signed=True) + numbers + text.encode(), digest_size=16).hexdigest()


def _one_text_each(column: Sequence[str]) -> list[str]:
    known = {text: _one_text(text) for text in set(column)}
    return [known[text] for text in column]


def _one_text(text: str) -> str:
    """The text of a category in each of the three spellings."""
    number = spelling.category(text, "number") or ""
    return spelling.category(number, "truth") or ""
