"""What a look adds that can be told by its name: two columns, or two values of one, that were exchanged, and a column in another unit. Each is one
more feature of the verdict."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.monitoring import exchanged, exchanged_values
from pipeline.monitoring.domain_classifier import Block, block_of
from pipeline.monitoring.drift import DriftVerdict, FeatureDrift, Score
from pipeline.monitoring.exchanged import Exchange, Exchanges, Pair
from pipeline.monitoring.exchanged_values import Rows, ValueExchange, ValueExchanges, ValuePair
from pipeline.monitoring.feature_drift import NO_SHAPE
from pipeline.monitoring.profiles.layout import Table
from pipeline.monitoring.scaled import Scaled, Scales
from pipeline.settings.models import DriftLimits
from pipeline.training.frames import MISSING_CATEGORY

# Of the kept file's form, and of how pairs are learnt.
VERSION = 2
# Blocks of neighbours, where rows have no times.
BLOCKS = 26
# So many of a window's rows are enough: their mean is known to a hundredth.
MOST_ROWS = 20_000
# So many are named that nothing can be told of.
NAMED = 3
# Each category's values, None for a missing one.
Texts = dict[str, np.ndarray]
Named = Exchange | ValueExchange | Scaled


@dataclass(frozen=True)
class Known:
    """What was learnt from the same rows before."""

    pairs: Sequence[Pair]
    values: Sequence[ValuePair]


@dataclass(frozen=True)
class NamedFaults:
    """The faults that a reference says how to tell."""

    exchanges: Exchanges
    scales: Scales
    values: ValueExchanges
    texts: Sequence[str]

    @classmethod
    def of(cls, block: Block, columns: Sequence[str], texts: Texts, known: Known | None = None) -> NamedFaults:
        exchanges = Exchanges(block, columns, known.pairs if known else None)
        values = ValueExchanges(Rows(block.values, texts, block.days), known.values if known else None)
        return cls(exchanges, Scales(block, columns), values, [*texts])

    def judged(self, rows: Table) -> Looked:
        """Of the window's rows."""
        taken = _spaced(len(rows), MOST_ROWS)
        of = rows_of(rows, self.exchanges.columns, self.texts, taken)
        now, of_values = Block(of.numbers, of.blocks), self.values.judged(of)
        found: list[Named] = [*self.exchanges.judged(now), *of_values, *self.scales.judged(now)]
        return Looked(found, _said(self.exchanges.alike, [*self.scales.alike, *self.scales.unjudged(now)]))


@dataclass(frozen=True)
class Looked:
    """What a window shows of each fault that can be told, and in words of which ones nothing can be told."""

    found: Sequence[Named]
    unjudged: str = ""

    @property
    def told(self) -> list[Named]:
        """The surest of those that are over their limit, each column in one of them."""
        told: list[Named] = []
        for fault in sorted((fault for fault in self.found if fault.moved), key=lambda fault: -fault.probability):
            if not {*fault.columns} & {name for other in told for name in other.columns}:
                told.append(fault)
        return told


def columns_of(names: Sequence[str], importances: Mapping[str, float]) -> list[str]:
    """The numbers, or the categories, that are looked at: those that matter most, in a fixed order where nobody measured it."""
    ordered = sorted(names, key=lambda name: (-importances.get(name, 0.0), names.index(name)))
    return ordered[: exchanged.MOST_COLUMNS]


def of_reference(
    rows: pd.DataFrame,
    times: str,
    columns: Sequence[str],
    now: pd.Series,
    kept: Path,
    digest: str,
    categories: Sequence[str] = (),
) -> NamedFaults:
    """Of a sample of what a version learnt from, which has its event times in the column `times`, for a window with the event times `now`. What
    it says is kept in the file `kept` by its digest."""
    whole = block_of(rows, rows[times], columns)
    span = _span(now)
    block = Block(whole.values, (whole.days - whole.days.max()) // span)
    of = {
        "reference": digest,
        "columns": list(columns),
        "days": span,
        "categories": list(categories),
        "version": VERSION,
    }
    known = _known(kept, of)
    found = NamedFaults.of(block, columns, texts_of(rows, categories), known)
    if known is None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        aside = kept.with_suffix(f".{os.getpid()}")
        pairs = exchanged.as_lists(found.exchanges.pairs.values())
        values = exchanged_values.as_lists(found.values.pairs)
        aside.write_text(json.dumps({"of": of, "pairs": pairs, "values": values}), encoding="utf-8")
        aside.replace(kept)
    return found


def of_table(
    rows: Table, times: pd.Series | None, columns: Sequence[str], categories: Sequence[str] = ()
) -> NamedFaults:
    """Of a table. Without times, or with less than some weeks of them, its blocks are of neighbours."""
    taken = _spaced(len(rows), exchanged.LEARNT_ROWS)
    values, texts = _values(rows, columns, taken), texts_of(rows, categories, taken)
    blocks = taken * BLOCKS // max(len(rows), 1)
    if times is not None:
        days = pd.to_datetime(times.iloc[taken], utc=True).to_numpy("datetime64[D]").astype("int64")
        weeks = (days - days.max()) // exchanged.WEEK
        if len(np.unique(weeks)) >= exchanged.LEAST_BLOCKS:
            return NamedFaults.of(Block(values, weeks), columns, texts)
        order = np.argsort(days, kind="stable")
        values, texts = values[order], {name: column[order] for name, column in texts.items()}
    return NamedFaults.of(Block(values, blocks), columns, texts)


def with_named(
    verdict: DriftVerdict,
    looked: Looked,
    limits: DriftLimits,
    importances: Mapping[str, float],
    also: Collection[str] = (),
) -> DriftVerdict:
    """The verdict with the faults that can be named. They may raise an alarm, and end none that other features raise; features of this
    kind that are named in `also` are there too where the fault is not."""
    told = looked.told
    more = [fault for fault in looked.found if fault not in told and fault.feature in also]
    features = tuple(_feature(fault, importances) for fault in [*told, *more])
    joined = replace(verdict, features=(*verdict.features, *features))
    reason = verdict.reason + "".join(f"; {f.feature} changed ({f.reason})" for f in features if f.moved)
    drifted = bool(told) and len(joined.moved) >= limits.features_limit
    return replace(joined, verdict="drift" if drifted else verdict.verdict, reason=reason + looked.unjudged)


def _feature(fault: Named, importances: Mapping[str, float]) -> FeatureDrift:
    known = [importances[name] for name in fault.columns if name in importances]
    score = Score(exchanged.MEASURE, fault.probability, fault.limit, fault.reason)
    return FeatureDrift(fault.feature, (score,), shape=NO_SHAPE, importance=max(known, default=None))


def _said(pairs: Sequence[tuple[str, str]], units: Sequence[str]) -> str:
    said = ""
    if pairs:
        of = _listed([f"{first} and {second}" for first, second in pairs], "pairs")
        said += f"; no verdict on an exchange {of}: rows fit about as well either way"
    if units:
        said += f"; no verdict on the unit {_listed(units, 'columns')}: too few values tell of it"
    return said


def _listed(names: Sequence[str], what: str) -> str:
    more = [f"{len(names) - NAMED} more {what}"] if len(names) > NAMED else []
    return ", ".join(f"of {name}" for name in [*names[:NAMED], *more])


def _spaced(rows: int, most: int) -> np.ndarray:
    """The places of at most so many of the rows, each as far from the next."""
    return np.arange(rows) if rows <= most else np.arange(most) * rows // most


def _values(rows: Table, columns: Sequence[str], taken: np.ndarray) -> np.ndarray:
    """The numbers of some rows, (rows, columns) float64, NaN for what is none. One column is in memory at a time."""
    some = [pd.to_numeric(rows[name].iloc[taken], errors="coerce") for name in columns]
    values = np.column_stack([column.to_numpy("float64", na_value=np.nan) for column in some])
    return np.where(np.isfinite(values), values, np.nan)


def rows_of(rows: Table, columns: Sequence[str], categories: Sequence[str], taken: np.ndarray | None = None) -> Rows:
    """Some of the rows of a window, or all, as one block."""
    some = np.arange(len(rows)) if taken is None else taken
    return Rows(_values(rows, columns, some), texts_of(rows, categories, some), np.zeros(len(some), np.int64))


def texts_of(rows: Table, categories: Sequence[str], taken: np.ndarray | None = None) -> Texts:
    """The values of the categories, in some of the rows or in all."""
    found: Texts = {}
    for name in categories:
        column = rows[name].iloc[taken if taken is not None else slice(None)]
        found[name] = np.array([None if pd.isna(v) or v == MISSING_CATEGORY else v for v in column], dtype=object)
    return found


def _span(times: pd.Series) -> int:
    """How many days a block has: a week, or those of a shorter window."""
    days = pd.to_datetime(times, utc=True).dt.floor("D").nunique()
    return int(min(max(days, 1), exchanged.WEEK))


def _known(kept: Path, of: Mapping[str, object]) -> Known | None:
    """What the file has of this reference; None where it is of another, or damaged: then it is learnt again."""
    try:
        known = json.loads(kept.read_text(encoding="utf-8"))
        if known["of"] != of:
            return None
        return Known(exchanged.of_lists(known["pairs"]), exchanged_values.of_lists(known["values"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
