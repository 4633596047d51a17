"""Held-out rows for single gates, without a package: only their answers are looked at."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd

from harness.project import CHURN
from pipeline.gates.base import PackagedModel
from pipeline.settings.models import Model


def model(task="binary", metric="roc_auc", **gates):
    training = {**CHURN["training"], "task": task, "numeric": ["spend", "calls"], "categorical": [], "options": {}}
    limit = 0.6 if metric in ("roc_auc", "r2", "accuracy") else 100.0
    block = {**CHURN, "training": training, "evaluation": {"holdout_days": 7, "metric": metric}}
    return Model.model_validate({**block, "gates": {"metric_limit": limit, **gates}})


def rows_of(count=2000, seed=0):
    rng = np.random.default_rng(seed)
    seen = pd.Timestamp("2024-02-20", tz="UTC") + pd.to_timedelta(np.arange(count) * 7 * 86_400 / count, unit="s")
    table = {"seen_at": seen, "spend": rng.normal(0, 1, count), "calls": rng.normal(0, 1, count)}
    return pd.DataFrame(table | {"sex": rng.choice(["f", "m"], count)})


def packaged(settings, rows, classes=(), **more):
    package = SimpleNamespace(classes=classes)
    return PackagedModel(settings, {}, None, rows, package, **more)
