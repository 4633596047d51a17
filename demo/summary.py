"""What the demo tells at its end. Every figure is read from the ledger, the registry or the replay's own count."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd
from rich.console import Console

from demo.replay import Tally
from pipeline.cli import tables
from pipeline.context import Context
from pipeline.ledger import costs
from pipeline.ledger.events import DriftChecked, GatesChecked, RunOpened, StepEnded
from pipeline.ledger.rollout_events import RolloutEnded
from pipeline.services.environment import USER, Addresses
from pipeline.serving.runtime import Runtime
from pipeline.training.evaluate import metrics

WIDTH = 120


@dataclass(frozen=True)
class Told:
    """What the demo has to tell: the runs' names in the ledger, the tally, the flights to score both versions on."""

    context: Context
    at: Addresses
    model: str
    first: str
    second: str
    monitor: str
    requests: Tally
    later: pd.DataFrame
    seconds: float


def print_summary(told: Told, password: str) -> None:
    """Prints the summary and keeps it as JSON beside the demo's state."""
    facts = summary(told)
    (told.context.home / "summary.json").write_text(json.dumps(facts, indent=2, default=str) + "\n", encoding="utf-8")
    out = Console(width=WIDTH, highlight=False)
    out.rule("Perennial: what just happened")
    versions = tables.table(
        "version",
        "as of",
        "engine",
        ">held out",
        ">later flights",
        "gates passed",
        ">ready s",
        ">switch s",
        ">all traffic s",
        ">to live s",
    )
    for v in facts["versions"]:
        versions.add_row(
            v["version"],
            v["as_of"][:10],
            v["engine"],
            f"{v['held_out']:.4f}",
            f"{v['later']:.4f}",
            f"{v['gates_passed']}/{v['gates']}",
            f"{v['ready_s']:.2f}",
            f"{v['switch_s']:.2f}",
            f"{v['to_traffic_s']:.2f}",
            f"{v['trigger_to_live_s']:.1f}",
        )
    out.print(
        f"{facts['metric']} of both versions; later flights: the same {facts['later_rows']:,} of 1 to 14 July",
        versions,
    )
    out.print("all traffic: from the start of the rollout; to live: from the trigger")
    out.print(f"engine: {facts['versions'][-1]['engine_reason']}")
    drift = facts["drift"]
    out.print(f"drift: {drift['verdict']}, the features that moved: {', '.join(drift['moved'])}")
    for reason in drift["receipt"]["reasons"][1:]:
        out.print(f"       {reason}")
    asked = facts["requests"]
    out.print(
        f"requests: {asked['sent']:,} sent ({asked['rows']:,} flights), {asked['failed']} failed; by version {asked['versions']}; "
        f"p50 {asked['p50_ms']:.1f} ms, p99 {asked['p99_ms']:.1f} ms"
    )
    out.print(f"airflow: adds {facts['airflow_s_per_task']:.2f} s a task")
    out.print()
    steps = tables.table("what each run cost, by step", *(f">{run['short']}" for run in facts["runs"]))
    for step in dict.fromkeys(s for run in facts["runs"] for s in run["steps"]):
        cells = (run["steps"].get(step) for run in facts["runs"])
        steps.add_row(step, *(f"{c['wall_s']:.1f} s  {c['cost']:.5f}" if c else "" for c in cells))
    steps.add_row("all", *(f"{run['wall_s']:.1f} s  {run['cost']:.5f} {run['currency']}" for run in facts["runs"]))
    out.print(steps)
    at = told.at
    out.print(
        f"look:  Airflow {at.airflow} (user {USER}, password {password}; the page is under Perennial)\n"
        f"       MLflow {at.mlflow}   router {at.router_api}/dashboard/   model {at.router}/{told.model}/invocations\n"
        f"       drift report {drift['report']}"
    )
    out.print(
        "ask:   . .venv/bin/activate; export PERENNIAL_HOME=.perennial/demo\n"
        f"       python -m pipeline status · timeline {told.model} · trace 2013-03-31 · reproduce {told.model} 1",
        soft_wrap=True,
    )
    out.print(f"{facts['seconds']:.0f} s in all. The services keep running; `make down` ends them.", soft_wrap=True)


def summary(told: Told) -> dict[str, Any]:
    """The summary's figures."""
    context = told.context
    drift = context.ledger.events(DriftChecked, run=told.monitor)[-1].body
    runs = {run.run: run.as_dict() for run in costs.run_costs(context.ledger, context.params.prices)}
    named = [(told.first, "first retrain"), (told.monitor, "monitor"), (told.second, "drift retrain")]
    tally = told.requests
    overhead = [_airflow_overhead(context, run, runs[run]) for run in (told.first, told.second)]
    return {
        "metric": context.params.model(told.model).evaluation.metric,
        "later_rows": int(told.later[context.params.model(told.model).training.target].notna().sum()),
        "versions": [_version(told, run) for run in (told.first, told.second)],
        "drift": {key: drift[key] for key in ("verdict", "reason", "moved", "receipt", "live_quality", "report")},
        "requests": {
            "sent": tally.sent,
            "failed": tally.failed,
            "rows": tally.rows,
            "versions": dict(tally.versions),
            "p50_ms": tally.percentile_ms(0.5),
            "p99_ms": tally.percentile_ms(0.99),
            "failures": tally.failures[:5],
        },
        "runs": [_run(runs[run], short) for run, short in named],
        "airflow_s_per_task": sum(overhead) / len(overhead),
        "seconds": told.seconds,
    }


def _version(told: Told, run: str) -> dict[str, Any]:
    ledger, model = told.context.ledger, told.context.params.model(told.model)
    rollout = ledger.events(RolloutEnded, run=run)[-1]
    verdicts = ledger.events(GatesChecked, run=run)[-1].event.verdicts
    version = rollout.event.version
    metric = model.evaluation.metric
    labelled = told.later.dropna(subset=[model.training.target])
    answers = Runtime.load(told.context.registry.package_folder(told.model, version)).predict_frame(labelled)
    return {
        "version": version,
        "as_of": ledger.events(RunOpened, run=run)[-1].event.as_of,
        "held_out": told.context.registry.version_facts(told.model, version)["metrics"][metric],
        "later": metrics(model.training.task, labelled[model.training.target].to_numpy(), answers)[metric],
        "gates": len(verdicts),
        "gates_passed": sum(verdict["passed"] for verdict in verdicts),
        "trigger_to_live_s": _seconds(_triggered_at(run), rollout.at),
        **{
            key: rollout.body[key] for key in ("engine", "engine_reason", "slot", "ready_s", "switch_s", "to_traffic_s")
        },
    }


def _triggered_at(run: str) -> str:
    """Airflow writes the time of the trigger into a run's id."""
    return run.rpartition("__")[2].partition("_")[0]


def _run(run: dict[str, Any], short: str) -> dict[str, Any]:
    steps = {s["step"]: {"wall_s": s["wall_s"], "cost": s["cost"]} for s in run["steps"] if "cost" in s}
    return {
        "run": run["run"],
        "short": short,
        "steps": steps,
        **{k: run[k] for k in ("wall_s", "cpu_s", "cost", "currency")},
    }


def _airflow_overhead(context: Context, run: str, measured: dict[str, Any]) -> float:
    """Seconds a task that are not the task's own: from the trigger to the last step's end, less the steps."""
    last = context.ledger.events(StepEnded, run=run)[-1]
    return (_seconds(_triggered_at(run), last.at) - measured["wall_s"]) / len(measured["steps"])


def _seconds(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
