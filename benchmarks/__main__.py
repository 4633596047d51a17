"""Runs every benchmark of this folder, or those named; exit code 1 when one breaks a limit on counts or ratios."""

from __future__ import annotations

import importlib
import sys

ALL = (
    "self_check",
    "serving",
    "classes",
    "explain",
    "connection",
    "slow_clients",
    "abuse",
    "slot",
    "image",
    "batch",
    "stages",
    "airflow_database",
    "preload",
    "first_model",
    "large",
    "portfolio",
    "accounts",
    "repro",
    "data",
    "drift",
    "drift_scale",
    "backtest",
    "refit",
    "gates",
    "sound_challengers",
    "drift_days",
    "parallel",
    "rollouts",
    "server",
    "policy",
    "policy_further",
)

broken = []
for name in sys.argv[1:] or ALL:
    print(f"== {name}: {(importlib.import_module(f'benchmarks.{name}').__doc__ or '').splitlines()[0]}")
    if importlib.import_module(f"benchmarks.{name}").main() is False:
        broken.append(name)
if broken:
    sys.exit(f"limits broken: {', '.join(broken)}")
