"""One version of the past: trained as of the start of a window by the stages' own code, and scored on that window and all later ones.

What was made is kept in a folder, by the digest of all that it depends on: the rows, the settings, and the code that trains. So a further
window costs its own version and a look of each older one at its rows, and a file that is broken, or was made by other code, is made again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.data import contract, snapshot, unread, user_code
from pipeline.errors import PerennialError
from pipeline.gates import data_contract, enough_rows
from pipeline.gates.base import ValidatedData
from pipeline.runs.backtest import packed, signals
from pipeline.runs.backtest.alarms import alarm
from pipeline.runs.backtest.past import Past
from pipeline.serving.schema import Schema
from pipeline.settings.models import Model
from pipeline.training import economic_loss, frames, measured, tasks
from pipeline.training.tasks import Answers, classes_of

OURS = Path(__file__).resolve().parents[2]
# The code that decides what a version is, and what it scores.
CODE = (
    "training/**/*.py",
    "data/*.py",
    "serving/schema/*.py",
    "gates/*.py",
    "monitoring/answer_shift.py",
    "monitoring/estimated_quality.py",
    "monitoring/loss_tree.py",
    "runs/backtest/packed.py",
    "runs/backtest/past.py",
    "runs/backtest/signals.py",
    "runs/backtest/versions.py",
)
# Beside it, that which says whether a window had an alarm.
ALARM_CODE = ("monitoring/**/*.py", "runs/backtest/alarms.py")
LIBRARIES = ("scikit-learn", "numpy", "pandas", "duckdb", "pyarrow", "skops", "xgboost", "lightgbm")
KEPT_DAYS = 90
# What is kept of the answers to a version's own first window, beside the signals.
OWN = "own"
ROWS_AT_ONCE = 500_000


@dataclass(frozen=True)
class ScoredVersion:
    """The version as of the start of window `number`. `losses` has its mean loss on that window and each later one, in their order; None
    where it could not be trained, for the `reason`. `rows` is the fingerprint of what it learnt from, '' where that could not be read. `alarm` says whether the inputs of window `number` had one beside what it learnt. `signals` are as `losses`, by signal (signals.py). `trained` says whether it was trained now, and not taken from the folder."""

    number: int
    losses: tuple[float, ...] | None = None
    alarm: bool = False
    reason: str = ""
    trained: bool = False
    signals: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    rows: str = ""


@dataclass
class VersionMaker:
    """Makes versions of the model called `name`, whose source's paths start at `root`; `folder` is for what was made."""

    name: str
    model: Model
    root: Path
    folder: Path
    past: Past
    _features: _Features | None = None

    def version(self, number: int) -> ScoredVersion:
        """Raises no PerennialError: a version that cannot be made has a reason."""
        try:
            return self._version(number)
        except PerennialError as error:
            return ScoredVersion(number, reason=str(error))

    def kept(self, number: int, fingerprint: str) -> ScoredVersion | None:
        """The version that learnt from rows of this fingerprint, where it was made before, on the windows that there are now; None for one
        that has to be made, or that lacks more than scores."""
        model = self._as_of(number)
        kept = _Kept(self.folder / self._key(model, fingerprint))
        record = kept.read()
        if reason := record.get("reason", ""):
            return ScoredVersion(number, reason=reason, rows=fingerprint)
        lacks = self._lacks(number, record)
        if lacks.look or "schema" not in record:
            return None
        fitted = kept.model() if lacks.scores else None
        if lacks.scores and fitted is None:
            return None
        rows = _Rows(model, Schema.from_json(record["schema"]), fingerprint)
        return self._of_record(number, kept, record, lacks, fitted, rows)

    def window(self, number: int) -> tuple[datetime, datetime]:
        """What the version learns from, [start, end)."""
        model = self._as_of(number)
        return snapshot.window(model.source, model.as_of)

    def _as_of(self, number: int) -> Model:
        return self.model.model_copy(update={"as_of": self.past.starts[number]})

    def _version(self, number: int) -> ScoredVersion:
        model, (start, end) = self._as_of(number), self.window(number)
        with snapshot.known(self.name, model, self.root, start, end, end) as known:
            kept = _Kept(self.folder / self._key(model, known.fingerprint))
            record = kept.read()
            if reason := record.get("reason", ""):
                return ScoredVersion(number, reason=reason, rows=known.fingerprint)
            lacks = self._lacks(number, record)
            fitted = kept.model() if lacks.scores else None
            rows = _Rows(model, _schema(known, record), known.fingerprint)
            if lacks.look or (lacks.scores and fitted is None):
                rows.table = known.table()
        return self._of_record(number, kept, record, lacks, fitted, rows)

    def _lacks(self, number: int, record: Mapping[str, Any]) -> _Lacks:
        scores = record.get("losses", {}).get(self._loss_key, {})
        missing = [w for w in range(number, self.past.windows) if self.past.digests[w] not in scores]
        return _Lacks(missing, self._look(number) not in record.get("alarms", {}))

    def _of_record(
        self, number: int, kept: _Kept, record: Mapping[str, Any], lacks: _Lacks, fitted: Any, rows: _Rows
    ) -> ScoredVersion:
        """What the record has, with what it lacks."""
        losses, alarms, trained = dict(record.get("losses", {})), dict(record.get("alarms", {})), False
        scores, look, said = losses.setdefault(self._loss_key, {}), self._look(number), dict(record.get("signals", {}))
        if lacks.scores:
            if fitted is None:
                try:
                    fitted, trained = self._trained(kept, rows), True
                except PerennialError as error:
                    return ScoredVersion(number, reason=str(error), rows=rows.fingerprint)
            scores |= self._scores(rows.model, fitted, rows.schema, lacks.scores, number, said)
        if lacks.look:
            asked = self._features_as(rows.schema, number, number + 1)
            alarms[look] = alarm(rows.model, self.root, rows.kept, asked, rows.schema, self.past.span)
        if lacks.scores or lacks.look:
            kept.write({"losses": losses, "alarms": alarms, "signals": said, "schema": rows.schema.as_json()})
        later = [self.past.digests[w] for w in range(number, self.past.windows)]
        told = {name: tuple(of.get(digest, math.nan) for digest in later) for name, of in said.items() if name != OWN}
        lost = tuple(scores[digest] for digest in later)
        return ScoredVersion(number, lost, alarms[look], trained=trained, signals=told, rows=rows.fingerprint)

    def _trained(self, kept: _Kept, rows: _Rows) -> Any:
        try:
            fitted = _fitted(rows.model, rows.kept, rows.table.num_rows, rows.schema)
        except PerennialError as error:
            kept.write({"reason": str(error)})
            raise
        kept.write_model(fitted)
        return fitted

    def _look(self, number: int) -> str:
        """What an alarm depends on beside the version."""
        monitor = self.model.monitor.model_dump(mode="json")
        return _digest(monitor, self.model.calendar, self.past.digests[number], code_digest(ALARM_CODE))

    def _scores(
        self, model: Model, fitted: Any, schema: Schema, windows: Sequence[int], own: int, said: dict[str, Any]
    ) -> dict[str, float]:
        """By the digest of each window. Puts the figures of signals beside those of window `own` into `said`, by signal and digest."""
        task, first = tasks.of(model.training), self.past.begins[windows[0]]
        features = self._features_as(schema, windows[0], windows[-1] + 1)
        targets = self.past.rows[model.training.target].to_numpy()
        weighed = self.past.rows[model.training.weight].to_numpy() if model.training.weight else np.ones(len(targets))
        found = {}
        for some in _together(windows, self.past.begins):
            begin, end = self.past.begins[some[0]], self.past.begins[some[-1] + 1]
            asked = features.iloc[begin - first : end - first]
            answers = Answers(task.predict(fitted, asked), classes_of(fitted))
            losses = economic_loss.of_rows(model, targets[begin:end], answers)
            for w in some:
                part = slice(self.past.begins[w] - begin, self.past.begins[w + 1] - begin)
                weight = weighed[begin:end][part]
                # A window of weights that are all 0 counts nothing.
                mean = np.average(losses[part], weights=weight) if weight.any() else 0.0
                found[self.past.digests[w]] = float(mean)
                of_window = Answers(answers.values[part], answers.classes)
                answered = signals.Answered(of_window, asked.iloc[part], targets[begin:end][part])
                self._look_at(model, answered, w, own, said)
        return found

    def _look_at(self, model: Model, answered: signals.Answered, window: int, own: int, said: dict[str, Any]) -> None:
        if window == own:
            said[OWN] = signals.kept_of(model, answered)
        if OWN in said:
            for name, figure in signals.figures(model, answered, said[OWN]).items():
                said.setdefault(name, {})[self.past.digests[window]] = figure

    def _features_as(self, schema: Schema, first: int, last: int) -> pd.DataFrame:
        """The features of the windows [first, last), as a version of that schema takes them."""
        how = tuple((column.name, column.spelling, column.precision) for column in schema.columns)
        begin, end = int(self.past.begins[first]), int(self.past.begins[last])
        if self._features is None or not self._features.has(how, begin, end):
            # One schema after the other: the features of all of them would not fit.
            self._features = None
            rows = contract.spelt(self.past.rows.slice(begin, end - begin), schema)
            self._features = _Features(how, begin, frames.features_of(rows, self.model, schema.doubles))
        return self._features.of(begin, end)

    def _key(self, model: Model, rows: str) -> str:
        settings = model.model_dump(mode="json", include={"as_of", "source", "training"})
        settings["contract"] = model.gates.contract.model_dump(mode="json")
        settings["evaluation"] = [model.evaluation.holdout_days, model.evaluation.metric, model.evaluation.refit]
        # Here, for a hook's files are known when it has run.
        own = user_code.own_code(model, self.root)
        return _digest(settings, rows, own, code_digest(CODE))

    @property
    def _loss_key(self) -> str:
        return _digest(self.model.loss, self.model.economics.model_dump(mode="json", include={"decisions"}))


@dataclass(frozen=True)
class _Features:
    """Those of rows of the past from `begin` on, as versions take them whose schemas read cells in the same way, `how`."""

    how: tuple[Any, ...]
    begin: int
    frame: pd.DataFrame

    def has(self, how: tuple[Any, ...], begin: int, end: int) -> bool:
        return how == self.how and self.begin <= begin and end <= self.begin + len(self.frame)

    def of(self, begin: int, end: int) -> pd.DataFrame:
        return self.frame.iloc[begin - self.begin : end - self.begin]


@dataclass(frozen=True)
class _Lacks:
    """What a record has not yet: the scores of these windows, and the look at the version's own one."""

    scores: Sequence[int]
    look: bool


@dataclass
class _Rows:
    """What a version learns from: the `table` as the source gave it, empty where nothing needs it, and what of it keeps the contract."""

    model: Model
    schema: Schema
    fingerprint: str = ""
    table: pa.Table = field(default_factory=lambda: pa.table({}))

    @functools.cached_property
    def kept(self) -> pd.DataFrame:
        return _kept_rows(self.model, self.table, self.schema)


def _schema(known: snapshot.KnownRows, record: Mapping[str, Any]) -> Schema:
    """As it was kept, else drawn from the rows: the same rows give the same."""
    return Schema.from_json(record["schema"]) if "schema" in record else known.schema()


def _fitted(model: Model, rows: pd.DataFrame, rows_in: int, schema: Schema) -> Any:
    """What the stages serve, which has learnt as `evaluation.refit` says, after the gates that stand before them: `rows` are those of
    `rows_in` that keep the contract. Raises PerennialError."""
    report = {"in": rows_in, "kept": len(rows), "quarantined": rows_in - len(rows), "faults": []}
    for gate in (enough_rows, data_contract):
        verdict = gate.verdict(ValidatedData(model, report))
        if not verdict.passed:
            raise PerennialError(f"as of {model.as_of:%Y-%m-%d}", verdict.reason, "a run stops at this gate")
    return measured.fitted(rows, model, schema.doubles, everything=model.evaluation.refit)


def _kept_rows(model: Model, table: pa.Table, schema: Schema) -> pd.DataFrame:
    rows = contract.spelt(table, schema)
    kept = rows[contract.keeps(rows, model, schema)].reset_index(drop=True)
    return kept.drop(columns=unread.COLUMN) if unread.COLUMN in kept else kept


def _together(windows: Sequence[int], begins: np.ndarray) -> list[list[int]]:
    """Windows that follow each other, in parts that memory holds."""
    parts: list[list[int]] = []
    for w in windows:
        if parts and parts[-1][-1] == w - 1 and begins[w + 1] - begins[parts[-1][0]] <= ROWS_AT_ONCE:
            parts[-1].append(w)
        else:
            parts.append([w])
    return parts


class _Kept:
    """What was made of one version, in a folder of its own: its record, which names the model's digest, and the model."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._model_digest = ""

    def read(self) -> dict[str, Any]:
        """Empty where nothing was kept, or the file is broken."""
        file = self._folder / "record.json"
        try:
            digest, _, text = file.read_text(encoding="utf-8").partition("\n")
            record = json.loads(text) if hashlib.sha256(text.encode()).hexdigest() == digest else {}
        except (OSError, ValueError):
            return {}
        self._model_digest = record.get("model", "")
        with contextlib.suppress(OSError):
            os.utime(file)
        return record

    def write(self, record: Mapping[str, Any]) -> None:
        text = json.dumps({**record, "model": self._model_digest})
        _write(self._folder / "record.json", f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}".encode())

    def model(self) -> Any:
        """The fitted pipeline; None where it is not there as it was written."""
        file = self._folder / "model.skops"
        try:
            whole = self._model_digest and hashlib.sha256(file.read_bytes()).hexdigest() == self._model_digest
        except OSError:
            return None
        return packed.load(file) if whole else None

    def write_model(self, fitted: Any) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / "model.skops"
        packed.save(fitted, file)
        self._model_digest = hashlib.sha256(file.read_bytes()).hexdigest()


def _write(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    aside.write_bytes(content)
    aside.replace(file)


def forget_unused(folder: Path, now: float | None = None) -> None:
    """Removes what no backtest has read for KEPT_DAYS."""
    oldest = (time.time() if now is None else now) - KEPT_DAYS * 86_400
    for record in folder.glob("*/record.json"):
        if record.stat().st_mtime < oldest:
            for file in record.parent.iterdir():
                file.unlink(missing_ok=True)
            record.parent.rmdir()


@functools.cache
def code_digest(patterns: tuple[str, ...]) -> str:
    """Of these files of ours, and of the libraries that make a version."""
    files = sorted(file for pattern in patterns for file in OURS.glob(pattern))
    texts = [file.relative_to(OURS).as_posix().encode() + file.read_bytes() for file in files]
    versions = []
    for library in LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions.append(f"{library} {metadata.version(library)}")
    return hashlib.sha256(b"\0".join([*texts, *map(str.encode, versions)])).hexdigest()


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:40]
