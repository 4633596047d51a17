"""Gates: how often the comparison with the champion stops a model as good, and one worse by twice the tolerance; the time of all gates.

A pair is a champion and a challenger that learnt from new samples of one world, and new held-out rows (harness/model_pairs.py). "No
verdict" counts as not stopped.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.limits import within_limit
from harness.model_pairs import World
from harness.project import CHURN, customers
from pipeline.gates import champion, run
from pipeline.gates.base import Verdict
from pipeline.settings.models import Model
from pipeline.training import evaluate, fit, package, skops_file
from pipeline.workspaces.dvc_graph import Artifacts

PAIRS = 200
# What the interval of 95 % leaves on both sides.
NOMINAL = 0.05
WORLDS = (
    World("binary", "roc_auc", 0.01),
    World("binary", "log_loss", 0.015),
    World("binary", "average_precision", 0.01),
    World("multiclass", "log_loss", 0.03),
    World("multiclass", "macro_f1", 0.02),
    World("regression", "mae", 0.02),
    World("regression", "r2", 0.02),
    World("binary", "roc_auc", 0.02, days=7, a_day=400),
    World("binary", "roc_auc", 0.04, days=7, a_day=60, learnt=1_300),
    World("regression", "rmse", 0.06, days=7, a_day=60, learnt=1_300),
    World("regression", "rmse", 0.03, days=7, a_day=400),
    World("regression", "mae", 0.15, days=10, a_day=120, learnt=2_400, skewed=True),
)
HELD_OUT_ROWS = 30_000


def main() -> bool:
    kept = []
    for world in WORLDS:
        name = f"{world.task} {world.metric}, {world.days * world.a_day:,} rows of {world.days} days"
        equal, exact = _said(world, 0.0, (world.tolerance, 0.0))
        (worse,) = _said(world, 2 * world.tolerance, (world.tolerance,))
        none = sum(not verdict.judged for verdict in (*equal, *worse)) / (2 * PAIRS)
        print(f"{name}: tolerance {world.tolerance:g}, no verdict {none:.1%}")
        kept.append(within_limit(f"{name}, as good, tolerance 0, share stopped", _stopped(exact), NOMINAL))
        kept.append(within_limit(f"{name}, as good, share stopped", _stopped(equal), NOMINAL))
        kept.append(within_limit(f"{name}, worse, share stopped", _stopped(worse), 0.9, at_least=True))
    kept.append(_times())
    return all(kept)


def _said(world: World, worse: float, tolerances: tuple[float, ...]) -> list[list[Verdict]]:
    """The verdicts of all pairs, with each of the tolerances."""
    said: list[list[Verdict]] = [[] for _ in tolerances]
    for number in range(PAIRS):
        pair = world.pair(number, worse)
        for found, tolerance in zip(said, tolerances, strict=True):
            verdict = champion.verdict(replace(pair, model=world.settings(tolerance)))
            assert verdict is not None
            found.append(verdict)
    return said


def _stopped(verdicts: list[Verdict]) -> float:
    return sum(not verdict.passed for verdict in verdicts) / len(verdicts)


def _times() -> bool:
    """All gates on many held-out rows, with a champion."""
    model = Model.model_validate(CHURN)
    rows = _many_rows()
    with tempfile.TemporaryDirectory() as made:
        files = Artifacts(Path(made), "churn")
        files.folder.mkdir(parents=True)
        skops_file.save(fit.fit(rows, model), files.model)
        evaluate.evaluate(model, rows, files.model, files.predictions, files.reference, files.metrics)
        package.build("churn", model, files.model, files.predictions, files.package, files.snapshot)
        held_out = len(pd.read_parquet(files.predictions))
        report = {
            "in": len(rows),
            "kept": len(rows),
            "quarantined": 0,
            "held_out": held_out,
            "faults": [],
            "missing": [],
        }
        files.validation.write_text(json.dumps(report))
        begun = time.perf_counter()
        verdicts = run.verdicts(model, files, files.package, "7")
        took = time.perf_counter() - begun
    for verdict in verdicts:
        print(verdict)
    return within_limit(f"all gates on {held_out:,} held-out rows, s", took, 15.0, binding=False)


def _many_rows() -> pd.DataFrame:
    rows = customers(days=29, a_day=round(HELD_OUT_ROWS / 7))
    rows["seen_at"] += pd.Timestamp("2024-03-01", tz="UTC") - pd.Timestamp("2024-01-30", tz="UTC")
    return rows.assign(decided_at=rows.seen_at + np.timedelta64(2, "D"))
