"""A slot of a model of three and of ten classes beside one of two labels: requests a second, with the same rows and settings.

The servers take turns, round after round, and the best round of each counts: other work on the machine can only make one slower.
"""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import load
from benchmarks.limits import within_limit
from harness.project import CHURN, bodies, churn_rows
from harness.slot_server import server
from pipeline.serving.settings import Settings
from pipeline.settings.models import Model
from pipeline.training import evaluate, fit, package, skops_file

ROUNDS, REQUESTS = 4, 6000
BINARY, CLASSES = "binary", (3, 10)


def main() -> bool:
    requests = [load.request("/invocations", body) for body in bodies()]
    with tempfile.TemporaryDirectory() as made, ExitStack() as stack:
        packages = {BINARY: _package(Path(made), 2)} | {f"{n} classes": _package(Path(made), n) for n in CLASSES}
        servers = {}
        for name, built in packages.items():
            (folder := Path(made) / f"slot of {name}").mkdir()
            servers[name] = stack.enter_context(server(built, folder, Settings(), version="1"))
        rate = dict.fromkeys(servers, 0.0)
        for _ in range(ROUNDS):
            for name, slot in servers.items():
                answers = load.send(slot.port, requests, REQUESTS)
                assert answers.failed == 0, answers.codes
                rate[name] = max(rate[name], answers.rate)
    for name, per_second in rate.items():
        print(f"{name:12} {per_second:6,.0f} requests/s, {per_second / rate[BINARY]:.2f} of binary's")
    return all(
        within_limit(
            f"{count} classes, share of binary's requests a second",
            rate[f"{count} classes"] / rate[BINARY],
            0.6,
            at_least=True,
        )
        for count in CLASSES
    )


def _package(folder: Path, classes: int) -> Path:
    """A package that learnt to tell so many kinds of customers apart."""
    block: dict[str, Any] = json.loads(json.dumps(CHURN))
    if classes > 2:
        block["training"] |= {"task": "multiclass", "target": "kind"}
        block["evaluation"]["metric"] = "log_loss"
    model = Model.model_validate(block)
    rows = churn_rows(model)
    noisy = rows["spend"] + np.random.default_rng(1).normal(0, 10, len(rows))
    rows["kind"] = "kind " + pd.qcut(noisy, classes, labels=False).astype(str)
    files = [folder / f"{classes}-{name}" for name in ("model", "predictions", "reference", "metrics")]
    skops_file.save(fit.fit(rows, model), files[0])
    evaluate.evaluate(model, rows, *files)
    package.build("churn", model, files[0], files[1], folder / f"package-{classes}")
    return folder / f"package-{classes}"
