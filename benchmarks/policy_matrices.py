"""Loss matrices of the streams: the version of each window, scored on each later window. Made once, and kept.

`python -m benchmarks.policy_matrices` makes those that are missing, two at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from benchmarks.policy_streams import STREAMS, Absent, Stream, kept
from pipeline.monitoring.drift import Window, compare
from pipeline.monitoring.profiles.in_memory import profile_of
from pipeline.monitoring.profiles.reference import reference_of
from pipeline.policy.retraining.base import History
from pipeline.policy.retraining.held import Spans
from pipeline.settings.models import DriftLimits

# Of a version's span so many rows are learnt from, of a window so many are scored and so many looked at for drift, drawn by the seed.
LEARNT, SCORED, LOOKED_AT = 6_000, 1_000, 2_000
ITERATIONS = 40
LEARNERS = ("boosting", "linear")
SEEDS = (1, 2)
# A part of the file's name: another way to make a matrix is another file.
RECIPE = "1"


@dataclass(frozen=True)
class Cell:
    """One loss matrix: a stream, as it came or shuffled in time, a learner and a seed."""

    seed: int
    shuffled: bool
    stream: str
    learner: str

    @property
    def file(self) -> Path:
        words = f"{self.stream} {'shuffled ' if self.shuffled else ''}{self.learner} {self.seed} {RECIPE}"
        return kept() / f"{words.replace(' ', '-')}.npz"


def cells(streams: Iterable[str] = STREAMS) -> list[Cell]:
    """All cells; shuffled ones with the first seed alone."""
    orders = [(SEEDS[0], False), (SEEDS[0], True), *((seed, False) for seed in SEEDS[1:])]
    return [Cell(s, mixed, stream, learner) for s, mixed in orders for stream in streams for learner in LEARNERS]


def history_of(cell: Cell) -> History:
    """The kept matrix of a cell.

    Errors: Absent where it was not made.
    """
    if not cell.file.is_file():
        raise Absent(f"{cell.stream} is left out: no {cell.file.name}")
    with np.load(cell.file) as found:
        return History(found["losses"], found["weights"], int(found["delay"]), found["drifted"])


def spans_of(cell: Cell) -> Spans:
    """How long a window of a kept matrix is, and what a version learns from. One that was kept before these were is replayed by weeks."""
    with np.load(cell.file) as found:
        return Spans(float(found["days"]), float(found["days"] * found["span"])) if "days" in found else Spans()


def make(cell: Cell, streams: Mapping[str, Callable[[], Stream]] = STREAMS) -> str:
    """Makes and keeps the matrix of one cell, and says how long it took."""
    began = time.monotonic()
    try:
        stream = streams[cell.stream]()
    except Absent as why:
        return f"{cell.stream} is left out: {why}"
    stream = stream.shuffled(cell.seed) if cell.shuffled else stream
    windows = stream.windows()
    losses = _losses(stream, windows, cell)
    weights = np.array([len(rows) for rows in windows[stream.span :]], float)
    aside = cell.file.with_suffix(".part.npz")
    np.savez(
        aside,
        losses=losses,
        weights=weights / np.median(weights),
        delay=stream.delay,
        days=stream.days,
        span=stream.span,
        drifted=_alarms(stream, windows, cell),
    )
    aside.replace(cell.file)
    return f"{cell.file.name}: {len(losses)} windows in {time.monotonic() - began:.0f} s"


def _losses(stream: Stream, windows: list[pd.DataFrame], cell: Cell) -> np.ndarray:
    """(windows, windows) float64: log loss, or squared error, of the version of each row on each later window."""
    served = windows[stream.span :]
    drawn = [_drawn(rows, SCORED, (cell.seed, number)) for number, rows in enumerate(served)]
    ends = np.cumsum([len(rows) for rows in drawn])
    columns = [*stream.numbers, *stream.categories]
    scored = pd.concat(drawn, ignore_index=True)
    losses = np.full((len(served), len(served)), np.nan)
    for version in range(len(served)):
        learnt = _together(stream, windows[version : version + stream.span])
        learnt = _drawn(learnt, min(LEARNT, int(0.8 * len(learnt))), (cell.seed, 1_000_000 + version))
        model = _model(stream, cell).fit(learnt[columns], learnt["target"])
        first = ends[version] - len(drawn[version])
        later = scored.iloc[first:]
        by_row = _loss(stream, model, later[columns], later["target"].to_numpy())
        starts = np.concatenate([[0], ends[version:-1] - first])
        losses[version, version:] = np.add.reduceat(by_row, starts) / np.diff([*starts, len(by_row)])
    return losses


def _model(stream: Stream, cell: Cell) -> Pipeline:
    if cell.learner == "linear":
        numbers = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler())
        as_columns = OneHotEncoder(handle_unknown="ignore")
        columns = make_column_transformer((numbers, list(stream.numbers)), (as_columns, list(stream.categories)))
        return make_pipeline(columns, Ridge(1.0) if stream.regression else LogisticRegression(max_iter=200))
    # The most of a category's values that boosting takes; rarer ones are told as one.
    codes = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1, max_categories=200
    )
    columns = make_column_transformer((codes, list(stream.categories)), ("passthrough", list(stream.numbers)))
    kind = HistGradientBoostingRegressor if stream.regression else HistGradientBoostingClassifier
    categorical = list(range(len(stream.categories)))
    boosting = kind(max_iter=ITERATIONS, early_stopping=False, categorical_features=categorical, random_state=cell.seed)
    return make_pipeline(columns, boosting)


def _loss(stream: Stream, model: Pipeline, features: pd.DataFrame, target: np.ndarray) -> np.ndarray:
    if stream.regression:
        return (model.predict(features) - target) ** 2
    late = np.clip(model.predict_proba(features)[:, 1], 1e-6, 1 - 1e-6)
    return -np.log(np.where(target == 1, late, 1 - late))


def _alarms(stream: Stream, windows: list[pd.DataFrame], cell: Cell) -> np.ndarray:
    """Those of a stream's real order are looked for once, and kept; a shuffled one is not looked at, nor a further one."""
    if cell.shuffled or cell.stream not in STREAMS:
        return np.zeros(len(windows) - stream.span, bool)
    kept_in = kept() / f"alarms-{cell.stream.replace(' ', '-')}-{RECIPE}.npy"
    if not kept_in.is_file():
        aside = kept_in.with_suffix(f".{cell.learner}.{cell.seed}.npy")
        np.save(aside, _drifted(stream, windows, SEEDS[0]))
        aside.replace(kept_in)
    return np.load(kept_in)


def _drifted(stream: Stream, windows: list[pd.DataFrame], seed: int) -> np.ndarray:
    """(windows,) bool: whether the product's drift check had an alarm at the look at the start of each window, on the window that had just
    ended, against the span before it. A calendar column is left out: it moves in every window."""
    numbers = [name for name in stream.numbers if name not in ("of_year", "weekday", "hour", "departure_hour")]
    looks, alarms = len(windows) - stream.span, np.zeros(len(windows) - stream.span, bool)
    a_quarter = max(1, 91 // stream.days)
    for look in range(1, looks):
        now = stream.span + look - 1
        learnt = _drawn(_together(stream, windows[look - 1 : now]), LEARNT, (seed, 2_000_000 + look)).sort_values("at")
        reference = reference_of(learnt, numbers, list(stream.categories), learnt["at"])
        profile = profile_of(_drawn(windows[now], LOOKED_AT, (seed, 3_000_000 + look)), reference.layout)
        alarms[look] = compare(reference, Window(profile, stream.days), DriftLimits(), a_quarter).verdict == "drift"
    return alarms


def _together(stream: Stream, windows: list[pd.DataFrame]) -> pd.DataFrame:
    """Neighbouring windows as one part of the stream's rows, which are not copied."""
    return stream.rows.loc[windows[0].index[0] : windows[-1].index[-1]]


def _drawn(rows: pd.DataFrame, most: int, seed: tuple[int, int]) -> pd.DataFrame:
    if len(rows) <= most:
        return rows
    return rows.iloc[np.sort(np.random.default_rng(seed).choice(len(rows), most, replace=False))]


def make_missing(wanted: list[Cell], workers: int = 2, streams: Mapping[str, Callable[[], Stream]] = STREAMS) -> None:
    """Says of each matrix that it was made, or why it cannot be."""
    missing = [cell for cell in wanted if not cell.file.is_file()]
    with ProcessPoolExecutor(workers) as pool:
        for number, made in enumerate(as_completed([pool.submit(make, cell, streams) for cell in missing]), 1):
            print(f"[{number}/{len(missing)}] {made.result()}", flush=True)


if __name__ == "__main__":
    make_missing(cells())
