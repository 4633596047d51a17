"""A slot that explains: what a row takes beside a prediction, and how many requests others still get answered meanwhile.

The same slot serves both, first alone and then beside a client that has ten rows explained again and again.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd

from benchmarks import load
from benchmarks.limits import within_limit
from harness.project import CHURN
from harness.slot_server import Server, server
from pipeline.serving.explaining import MOST_ROWS
from pipeline.settings.models import Model
from pipeline.training import evaluate, fit, package, skops_file

COLUMNS, ROWS, ROUNDS, REQUESTS = 16, 30_000, 3, 30_000


def main() -> bool:
    with tempfile.TemporaryDirectory() as made:
        built = _package(Path(made))
        records = json.loads((built / "golden.json").read_bytes())["request"]["dataframe_records"][:MOST_ROWS]
        with server(built, Path(made), version="1") as slot:
            return _measured(slot, records)


def _measured(slot: Server, records: list[dict[str, Any]]) -> bool:
    plain = [load.request("/invocations", json.dumps({"dataframe_records": [row]}).encode()) for row in records]
    alone = beside = 0.0
    took: list[float] = []
    for _ in range(ROUNDS):
        alone = max(alone, load.send(slot.port, plain, REQUESTS).rate)
        stop = threading.Event()
        asking = threading.Thread(target=_explain, args=(slot, records, stop, took))
        asking.start()
        answers = load.send(slot.port, plain, REQUESTS)
        stop.set()
        asking.join()
        assert answers.failed == 0, answers.codes
        beside = max(beside, answers.rate)
    row_ms = min(took) / len(records) * 1000
    print(
        f"alone {alone:,.0f} requests/s, beside explanations {beside:,.0f}; a row of {COLUMNS} columns {row_ms:.1f} ms"
    )
    return within_limit("share of the requests a second beside explanations", beside / alone, 0.3, at_least=True)


def _explain(slot: Server, records: list[dict[str, Any]], stop: threading.Event, took: list[float]) -> None:
    body = {"dataframe_records": records, "explain": True}
    with httpx.Client(timeout=60) as client:
        while not stop.is_set():
            begun = time.perf_counter()
            client.post(f"{slot.url}/invocations", json=body).raise_for_status()
            took.append(time.perf_counter() - begun)


def _package(folder: Path) -> Path:
    """A package of a boosting of twelve numbers and four categories, which may explain."""
    random = np.random.default_rng(0)
    numbers, categories = [f"n{i}" for i in range(COLUMNS - 4)], [f"c{i}" for i in range(4)]
    block: dict[str, Any] = json.loads(json.dumps(CHURN))
    block["training"] |= {"numeric": numbers, "categorical": categories, "options": {}}
    block["evaluation"] |= {"explain": True}
    block["gates"]["contract"] = {}
    model = Model.model_validate(block)
    rows = pd.DataFrame(random.normal(size=(ROWS, len(numbers))), columns=numbers)
    rows[categories] = random.choice([f"v{i}" for i in range(8)], (ROWS, len(categories)))
    odds = rows.n0 * rows.n1 + np.sin(2 * rows.n2) + rows.n4 * rows.n5 * rows.n6 + (rows.c0 == "v1")
    rows["left"] = (random.random(ROWS) < 1 / (1 + np.exp(-odds))).astype(float)
    rows["seen_at"] = pd.date_range(model.as_of - pd.Timedelta(days=30), periods=ROWS, freq="80s")
    rows["customer"] = rows.index.astype(str)
    files = [folder / name for name in ("model", "predictions", "reference", "metrics")]
    skops_file.save(fit.fit(rows, model), files[0])
    evaluate.evaluate(model, rows, *files)
    package.build("churn", model, files[0], files[1], folder / "package")
    return folder / "package"
