"""Runs every benchmark of this folder, or those named."""

from __future__ import annotations

import importlib
import sys

ALL = ("serving", "repro", "data", "parallel", "rollouts")

for name in sys.argv[1:] or ALL:
    print(f"== {name}: {(importlib.import_module(f'benchmarks.{name}').__doc__ or '').splitlines()[0]}")
    importlib.import_module(f"benchmarks.{name}").main()
