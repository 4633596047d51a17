"""Grafana's dashboard of the objectives of params.yaml: the same expressions as in Prometheus' rules."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pipeline.policy.service_levels import objectives
from pipeline.reliability.prometheus import percentile, throughput, wrong_ratio
from pipeline.settings.slo import Slo


def dashboard(slos: Mapping[str, Slo]) -> str:
    """Grafana's dashboard of the same objectives, as JSON to import: a row for each model."""
    panels: list[dict[str, Any]] = []
    for row, (name, slo) in enumerate(slos.items()):
        y = row * 9
        panels.append({"type": "row", "title": name, "gridPos": {"h": 1, "w": 24, "x": 0, "y": y}, "panels": []})
        panels += [_panel(panel, place, y + 1) for place, panel in enumerate(_panels(name, slo))]
    for number, panel in enumerate(panels, 1):
        panel["id"] = number
    source = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}
    values = {
        "title": "Perennial: service levels",
        "uid": "perennial-slo",
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "tags": ["perennial"],
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "utc",
        "templating": {"list": [source]},
        "panels": panels,
    }
    return json.dumps(values, indent=1) + "\n"


def _panels(name: str, slo: Slo) -> list[tuple[str, str, dict[str, str], list[float]]]:
    """(title, unit, expressions by legend, limits) of a model's panels."""
    limits = [ms / 1000 for ms in (slo.p95_ms, slo.p99_ms) if ms is not None]
    burns = {o.name: f"({wrong_ratio(name, o, '5m')}) / {o.budget:.6g}" for o in objectives(slo)}
    return [
        ("Burn rate of the error budgets, 5 min", "none", burns, sorted({1.0, *(burn.rate for burn in slo.burn)})),
        ("Receipt to answer", "s", {f"p{p}": percentile(name, p) for p in (50, 95, 99)}, limits),
        ("Answers a second", "reqps", {"answers": throughput(name)}, []),
    ]


def _panel(panel: tuple[str, str, dict[str, str], list[float]], place: int, y: int) -> dict[str, Any]:
    title, unit, expressions, limits = panel
    source = {"type": "prometheus", "uid": "${datasource}"}
    steps = [{"color": "green", "value": None}, *({"color": "red", "value": limit} for limit in limits)]
    shown = {"thresholdsStyle": {"mode": "line" if limits else "off"}}
    return {
        "type": "timeseries",
        "title": title,
        "datasource": source,
        "gridPos": {"h": 8, "w": 8, "x": 8 * place, "y": y},
        "fieldConfig": {
            "defaults": {"unit": unit, "custom": shown, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
        "targets": [
            {"refId": chr(65 + at), "datasource": source, "expr": expr, "legendFormat": legend}
            for at, (legend, expr) in enumerate(expressions.items())
        ],
    }
