"""What runs cost, and what automation earns against doing the same by hand.

cost of a step = cpu_s / 3600 * cpu_core_hour + peak_mb / 1024 * wall_s / 3600 * memory_gb_hour
"""

from __future__ import annotations

from typing import Any

from pipeline.ledger.events import StepEnded, StepStarted
from pipeline.ledger.rollout_events import RolloutEnded
from pipeline.ledger.store import Ledger
from pipeline.settings.models import Baseline, Prices


def step_cost(step: StepEnded, prices: Prices) -> float:
    """Price of one metered step, in `prices.currency`."""
    processor = step.cpu_s / 3600 * prices.cpu_core_hour
    memory = step.peak_mb / 1024 * step.wall_s / 3600 * prices.memory_gb_hour
    return processor + memory


def runs(ledger: Ledger, prices: Prices, *, run: str = "", model: str = "") -> list[dict[str, Any]]:
    """One entry a run, oldest first, with its steps; a step without an end is shown as such."""
    found: dict[str, dict[str, Any]] = {}
    for entry in ledger.events(StepStarted, StepEnded, run=run, model=model):
        costs = found.setdefault(
            entry.run, {"run": entry.run, "model": entry.model, "started_at": entry.at, "steps": {}}
        )
        tries = costs["steps"].setdefault(entry.step, [])
        if isinstance(entry.event, StepEnded):
            _end(tries, entry.step, entry.event, prices)
        else:
            tries.append({"step": entry.step, "state": "no end recorded"})
    return [_totals(costs, prices.currency) for costs in found.values()]


def _end(tries: list[dict[str, Any]], name: str, step: StepEnded, prices: Prices) -> None:
    ended = {
        "step": name,
        "state": step.state,
        "wall_s": step.wall_s,
        "cpu_s": step.cpu_s,
        "peak_mb": step.peak_mb,
        "cost": step_cost(step, prices),
        "currency": prices.currency,
    }
    if tries and tries[-1]["state"] == "no end recorded":
        tries[-1] = ended
    else:
        tries.append(ended)


def _totals(entry: dict[str, Any], currency: str) -> dict[str, Any]:
    steps = [one for tries in entry["steps"].values() for one in tries]
    measured = [s for s in steps if "cost" in s]
    return {
        **entry,
        "steps": steps,
        "wall_s": round(sum(s["wall_s"] for s in measured), 3),
        "cpu_s": round(sum(s["cpu_s"] for s in measured), 3),
        "peak_mb": max((s["peak_mb"] for s in measured), default=0.0),
        "cost": sum(s["cost"] for s in measured),
        "currency": currency,
    }


def roi(ledger: Ledger, prices: Prices, baseline: Baseline, *, model: str = "") -> dict[str, Any]:
    """What the deployments so far saved against the same ones by hand, as (low, high) ranges.

    The hours are claims of `baseline.source`; deployments and machine cost are measured here.
    low = fewest manual hours - most automated ones; high the other way round.
    """
    deployments = len(ledger.events(RolloutEnded, model=model))
    machine = sum(entry["cost"] for entry in runs(ledger, prices, model=model))
    manual, automated = baseline.manual_engineer_hours_per_deployment, baseline.automated_engineer_hours_per_deployment
    hours = (manual[0] - automated[1], manual[1] - automated[0])
    saved = [deployments * h * prices.engineer_hour for h in hours]
    return {
        "model": model or None,
        "deployments": deployments,
        "machine_cost": machine,
        "engineer_hours_saved_low": deployments * hours[0],
        "engineer_hours_saved_high": deployments * hours[1],
        "net_low": saved[0] - machine,
        "net_high": saved[1] - machine,
        "currency": prices.currency,
        "measured": ["deployments", "machine_cost"],
        "claimed": ["engineer_hours_saved_low", "engineer_hours_saved_high", "net_low", "net_high"],
        "baseline_source": baseline.source,
    }
