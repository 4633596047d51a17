"""All gates on 30,000 held-out rows of flights, beside a champion of a week before; and sound challengers of other months, which none of them stops."""

from __future__ import annotations

import copy
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from benchmarks.limits import within_limit
from demo.flights import flights_of_2013, source_folder
from pipeline.gates import run
from pipeline.gates.base import LiveFacts, Verdict
from pipeline.settings.models import Model
from pipeline.training import evaluate, fit, package, skops_file
from pipeline.workspaces.dvc_graph import Artifacts

ROOT = Path(__file__).resolve().parents[1]
NAME = "flight-delay"
# The as-of of a challenger; its champion is a week older.
TIMED, MONTHS = "2013-06-10", ("2013-04-08", "2013-06-17", "2013-09-16", "2013-12-30")
HELD_OUT_DAYS, LIMIT_S = 35, 15


def main() -> bool:
    flights = flights_of_2013(source_folder())
    flights = flights[flights["late"].notna()].sort_values("scheduled_departure", ignore_index=True)
    seconds, verdicts, rows = _judged(flights, TIMED, HELD_OUT_DAYS)
    print(f"{len(verdicts)} gates on {rows:,} held-out rows: {seconds:.1f} s")
    within_limit("seconds of all gates", seconds, LIMIT_S, binding=False)
    stopped = [f"{TIMED} {verdict}" for verdict in verdicts if verdict.stops]
    for as_of in MONTHS:
        _, verdicts, rows = _judged(flights, as_of, 14)
        found = [f"{as_of} {verdict}" for verdict in verdicts if verdict.stops]
        warned, without = (_named(verdicts, word) for word in ("warned", "no verdict"))
        print(
            f"{as_of}: {len(verdicts)} gates on {rows:,} rows, stopped by {len(found)}, warned by {warned}, no verdict of {without}"
        )
        stopped += found
    print("\n".join(stopped), end="\n" if stopped else "")
    return within_limit("sound challengers that a gate stops", len(stopped), 0)


def _named(verdicts: list[Verdict], word: str) -> str:
    return ", ".join(verdict.gate for verdict in verdicts if verdict.word == word) or "none"


def _judged(flights: pd.DataFrame, as_of: str, held_out_days: float) -> tuple[float, list[Verdict], int]:
    """(seconds of the gates, their verdicts, held-out rows) of the version as of that day."""
    with tempfile.TemporaryDirectory() as folder:
        before = (pd.Timestamp(as_of) - pd.Timedelta(days=7)).strftime("%Y-%m-%d")
        champion = _built(_block(before, held_out_days), flights, Path(folder) / "champion")
        block = _block(as_of, held_out_days)
        files = _built(block, flights, Path(folder) / "challenger")
        model = Model.model_validate(block)
        answered = pd.read_parquet(champion.predictions)
        features = [*model.training.numeric, *model.training.categorical]
        importances = json.loads(champion.metrics.read_text(encoding="utf-8"))["importances"]
        live = LiveFacts(answered[features].tail(model.gates.churn.rows), "", importances)
        start = time.perf_counter()
        verdicts = run.verdicts(model, files, champion.package, "1", live=live)
        return time.perf_counter() - start, verdicts, len(pd.read_parquet(files.predictions))


def _block(as_of: str, held_out_days: float) -> dict[str, Any]:
    """The settings of the repository's model, with slices and groups."""
    block = copy.deepcopy(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["models"][NAME])
    block["as_of"] = f"{as_of}T00:00:00Z"
    block["evaluation"]["holdout_days"] = held_out_days
    block["gates"]["slices"] = {"columns": ["carrier", "origin", "dest"]}
    # Airports differ, and are no people.
    block["gates"]["fairness"] = {"columns": ["origin"], "demographic_parity": 0.5, "equalised_odds": 0.5}
    return block


def _built(block: dict[str, Any], flights: pd.DataFrame, folder: Path) -> Artifacts:
    """What the stages make of the window's rows; the data's gates are not asked."""
    files, model = Artifacts(folder, NAME), Model.model_validate(block)
    files.folder.mkdir(parents=True)
    at, begin = flights["scheduled_departure"], pd.Timestamp(model.as_of) - pd.Timedelta(days=model.source.window_days)
    rows = flights[(at >= begin) & (at < model.as_of)].reset_index(drop=True)
    skops_file.save(fit.fit(rows, model), files.model)
    evaluate.evaluate(model, rows, files.model, files.predictions, files.reference, files.metrics)
    package.build(NAME, model, files.model, files.predictions, files.package, files.snapshot)
    days = {"median": None, "history": 0, "off": {}}
    report = {"in": len(rows), "kept": len(rows), "quarantined": 0, "faults": [], "missing": [], "days": days}
    files.validation.write_text(json.dumps(report), encoding="utf-8")
    return files


if __name__ == "__main__":
    main()
