"""The words of a text in the prediction log: in each row one list, of the groups that its words are in, from 1 on and each as often as it has words.

A column for each group would be a thousand columns, of which a row has ten that are not 0: they took a tenth of a second to write, twice a
second, and 370 KB for one row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.serving.schema import Column, texts

NAME = re.compile(r"(?P<text>.+) word groups of (?P<groups>\d+)", re.DOTALL)


def name_of(column: Column) -> str:
    """What the list of a text is called in the log."""
    return f"{column.name} word groups of {column.groups}"


def logged(column: Column) -> tuple[str, ...]:
    """The columns that the log has of one of the schema's: its numbers, and in place of those of single groups the list."""
    return column.matrix if not column.groups else (*column.watched, name_of(column))


def lists(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(where each row's list begins and the last ends, int32 (rows + 1,), all groups, uint16) of counts, float (rows, groups)."""
    whole = np.nan_to_num(counts).astype("int64")
    rows, places = whole.nonzero()
    ends = np.concatenate([[0], whole.sum(axis=1).cumsum()])
    return ends.astype("int32"), np.repeat(places + 1, whole[rows, places]).astype("uint16")


def counts(lengths: np.ndarray, places: np.ndarray, groups: int, is_missing: np.ndarray) -> np.ndarray:
    """The counts, float32 (rows, groups), of lists with these `lengths` (rows,), one behind the other in `places`; NaN where the text `is_missing`."""
    found = np.zeros((len(lengths), groups), "float32")
    np.add.at(found, (np.repeat(np.arange(len(lengths)), lengths), places.astype("int64") - 1), 1.0)
    found[is_missing] = np.nan
    return found


def of_arrow(array: Any, groups: int, characters: np.ndarray) -> np.ndarray:
    """`counts` of a pyarrow ListArray; `characters`, (rows,), are the text's: NaN where it is missing."""
    lengths = array.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    return counts(lengths, array.flatten().to_numpy(zero_copy_only=False), groups, np.isnan(characters))


def spread(name: str, array: Any, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The counts of a list of the log, a pyarrow ListArray, by the names of their groups; none where `name` is no list's. `columns` has the numbers before it."""
    if (is_list := NAME.fullmatch(name)) is None:
        return {}
    text, groups = is_list["text"], int(is_list["groups"])
    size, *_ = texts.names(text)
    return dict(
        zip(texts.names(text, groups)[len(texts.PARTS) :], of_arrow(array, groups, columns[size]).T, strict=True)
    )
