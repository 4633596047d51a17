"""An example value, as YAML writes it, for each key that a model's block, or what all models share, must have."""

from __future__ import annotations

# `source.query` and `training.numeric` are optional alone, but a block needs one of each kind.
EXAMPLES = {
    "models.NAME.as_of": '"2026-01-01T00:00:00Z"',
    "models.NAME.schedule.cron": '"0 0 * * 1"',
    "models.NAME.schedule.start": '"2025-01-01T00:00:00Z"',
    "models.NAME.source.query": (
        "\"SELECT * FROM read_parquet('orders/*.parquet', union_by_name = true) WHERE seen_at >= $start AND seen_at < $end\""
    ),
    "models.NAME.source.event_time": "seen_at",
    "models.NAME.source.window_days": "90",
    "models.NAME.training.target": "returned",
    "models.NAME.training.numeric": "[price, weight]",
    "models.NAME.evaluation.holdout_days": "14",
    "models.NAME.evaluation.metric": "roc_auc",
    "models.NAME.gates.metric_limit": "0.6",
    "models.NAME.monitor.cron": '"0 6 * * *"',
    "models.NAME.monitor.window_days": "30",
    "prices.cpu_core_hour": "0.05",
    "prices.memory_gb_hour": "0.006",
    "prices.engineer_hour": "95",
    "baseline.source": '"our own estimate"',
    "baseline.manual_engineer_hours_per_deployment": "[8, 16]",
    "baseline.automated_engineer_hours_per_deployment": "[0.5, 2]",
}


def example(key: str) -> str:
    """A line for params.yaml that adds `key`, such as `models.churn.source.event_time`; '' for a key without an example."""
    parts = key.split(".")
    named = ".".join(["models", "NAME", *parts[2:]]) if parts[0] == "models" else key
    value = _value(named)
    return f"{parts[-1]}: {value}" if value else ""


def _value(key: str) -> str:
    """The example of a key, or of a whole section: what its required keys need."""
    if key in EXAMPLES:
        return EXAMPLES[key]
    inside = {name.removeprefix(f"{key}."): value for name, value in EXAMPLES.items() if name.startswith(f"{key}.")}
    direct = dict.fromkeys(name.partition(".")[0] for name in inside)
    return "{" + ", ".join(f"{name}: {_value(f'{key}.{name}')}" for name in direct) + "}" if direct else ""
