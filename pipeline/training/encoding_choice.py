"""The encodings that params.yaml leaves open: which there are to choose from, in the order of preference.

The first is what a model gets that is not measured; training/measured.py measures the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.settings.estimators import NATIVE
from pipeline.settings.training import Training
from pipeline.training.encodings import MANY, NATIVE_MOST, ONE_HOT_BYTES

if TYPE_CHECKING:
    import pandas as pd

# By how an estimator takes numbers, see training/pipelines.py: trees that may split at any number, and lines through numbers.
PREFERRED = {"raw": ("ordinal", "target"), "imputed": ("one_hot", "ordinal", "target"), "scaled": ("one_hot", "target")}


@dataclass(frozen=True)
class Candidate:
    """One way to encode all categories; `name` is that of the columns which params.yaml leaves open."""

    name: str
    by_column: Mapping[str, str]


def candidates(features: pd.DataFrame, training: Training, columns_as: str) -> list[Candidate]:
    """All that may be measured, each of them different. `features` are the rows to learn from."""
    different = {column: int(features[column].nunique()) for column in training.categorical}
    open_ = [column for column in different if training.encoding_of(column) == "auto"]
    stated = {column: str(training.encoding_of(column)) for column in different if column not in open_}
    if not open_:
        return [Candidate("stated", stated)]
    names = [*PREFERRED[columns_as]]
    if training.estimator in NATIVE and training.runtime == "skops":
        names.append("native")
    few = [column for column in open_ if different[column] <= MANY]
    dense = sum(different[column] for column in few) * len(features) * 8 > ONE_HOT_BYTES
    found: list[Candidate] = []
    for name in names:
        if name == "native" and max(different[column] for column in open_) > NATIVE_MOST:
            continue
        one_hot_fits = set(few) if not dense else set()
        chosen = {column: name if name != "one_hot" or column in one_hot_fits else "target" for column in open_}
        _add(found, name, chosen | stated, different)
        if name == "ordinal" and 0 < len(few) < len(open_):
            mixed = {column: "ordinal" if column in few else "target" for column in open_}
            _add(found, "ordinal", mixed | stated, different)
    return found


def _add(found: list[Candidate], name: str, by_column: Mapping[str, str], order: Mapping[str, int]) -> None:
    ordered = {column: by_column[column] for column in order}
    if any(ordered == other.by_column for other in found):
        return
    kinds = list(dict.fromkeys(ordered.values()))
    if name == "one_hot" and "one_hot" not in kinds:
        name = "target"
    elif len({*kinds} - {name}) and name in ("one_hot", "ordinal") and "target" in kinds:
        name = f"{name} and target"
    found.append(Candidate(name, ordered))
