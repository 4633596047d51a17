"""The demo's summary. Every figure is read from the ledger, the registry or the replay's tally."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from demo.replay import Tally
from pipeline.accounts.account import Account, account
from pipeline.accounts.statement import Terms
from pipeline.cli import account_table, tables
from pipeline.context import Context
from pipeline.ledger import costs
from pipeline.ledger.events import DriftChecked, GatesChecked, RunOpened, StepEnded
from pipeline.ledger.rollout_events import RolloutEnded
from pipeline.services.environment import USER, Addresses
from pipeline.serving.runtime import Runtime
from pipeline.training import tasks

WIDTH = 120


@dataclass(frozen=True)
class DemoResult:
    """The demo's outcome: the names of its runs in the ledger, the tally of its requests, and the `later` flights on which both
    versions are compared."""

    context: Context
    addresses: Addresses
    model: str
    first: str
    second: str
    monitor: str
    requests: Tally
    later: pd.DataFrame
    seconds: float


def print_summary(result: DemoResult, password: str) -> None:
    """Prints the summary and writes it as JSON beside the demo's state."""
    facts = summary(result)
    file = result.context.home / "summary.json"
    file.write_text(json.dumps(facts, indent=2, default=str) + "\n", encoding="utf-8")
    out = Console(width=WIDTH, highlight=False)
    out.rule("Perennial: what just happened")
    _print_versions(out, facts)
    _print_traffic(out, facts)
    out.print()
    out.print(_costs(facts))
    _print_addresses(out, result, facts, password)
    _print_account(out, result)
    out.print(f"{facts['seconds']:.0f} s in all. The services keep running; `make down` ends them.", soft_wrap=True)


def _print_versions(out: Console, facts: dict[str, Any]) -> None:
    headings = ("version", "as of", "engine", ">held out", ">later flights", "gates passed")
    versions = tables.table(*headings, ">ready s", ">switch s", ">all traffic s", ">to live s")
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
        f"{facts['metric']} of both versions; later flights: the same {facts['later_rows']:,} of 8 to 21 July",
        versions,
    )
    out.print("all traffic: from the start of the rollout; to live: from the trigger")
    out.print(f"engine: {facts['versions'][-1]['engine_reason']}")


def _print_traffic(out: Console, facts: dict[str, Any]) -> None:
    drift, requests = facts["drift"], facts["requests"]
    out.print(f"drift: {drift['verdict']}, the features that moved: {', '.join(drift['moved'])}")
    for reason in drift["receipt"]["reasons"][1:]:
        out.print(f"       {reason}")
    out.print(
        f"requests: {requests['sent']:,} sent ({requests['rows']:,} flights), {requests['failed']} failed; "
        f"by version {requests['versions']}; p50 {requests['p50_ms']:.1f} ms, p99 {requests['p99_ms']:.1f} ms"
    )
    out.print(f"airflow: adds {facts['airflow_s_per_task']:.2f} s a task")


def _costs(facts: dict[str, Any]) -> Table:
    """Seconds and money of each run, step by step."""
    runs = facts["runs"]
    steps = tables.table("what each run cost, by step", *(f">{run['short']}" for run in runs))
    for step in dict.fromkeys(step for run in runs for step in run["steps"]):
        cells = (run["steps"].get(step) for run in runs)
        steps.add_row(step, *(f"{cell['wall_s']:.1f} s  {cell['cost']:.5f}" if cell else "" for cell in cells))
    steps.add_row("all", *(f"{run['wall_s']:.1f} s  {run['cost']:.5f} {run['currency']}" for run in runs))
    return steps


def _print_addresses(out: Console, result: DemoResult, facts: dict[str, Any], password: str) -> None:
    at = result.addresses
    out.print(
        f"look:  Airflow {at.airflow} (user {USER}, password {password}; the page is under Perennial)\n"
        f"       MLflow {at.mlflow}   router {at.router_api}/dashboard/   model {at.router}/{result.model}/invocations\n"
        f"       drift report {facts['drift']['report']}"
    )
    out.print(
        "ask:   . .venv/bin/activate; export PERENNIAL_HOME=.perennial/demo\n"
        f"       perennial status · timeline {result.model} · decide {result.model} --as-of 2013-07-08 · trace 2013-03-31 · reproduce {result.model} 1",
        soft_wrap=True,
    )


def _print_account(out: Console, result: DemoResult) -> None:
    """What a manager reads: what each deployment cost, what it is worth by the labels that came, and whether it paid."""
    out.rule("Statement of account")
    told = _account(result)
    out.print(account_table.short(told), soft_wrap=True, markup=False)
    retrained = next((each for each in told.deployments if each.run == result.second), None)
    if retrained is not None:
        said = account_table.verdict(retrained, told.bill.currency)
        out.print(f"\nthe second retrain: {said}", soft_wrap=True, markup=False)
    out.print(f"the whole of it: perennial account {result.model}; automation as such: perennial roi", soft_wrap=True)


def _account(result: DemoResult) -> Account:
    return account(result.context.ledger, Terms.of(result.context.params), result.model)


def summary(result: DemoResult) -> dict[str, Any]:
    """The summary's figures."""
    context = result.context
    drift = context.ledger.events(DriftChecked, run=result.monitor)[-1].body
    runs = {run.run: run.as_dict() for run in costs.run_costs(context.ledger, context.params.prices)}
    named = [(result.first, "first retrain"), (result.monitor, "monitor"), (result.second, "second retrain")]
    tally = result.requests
    overhead = [_airflow_overhead(context, run, runs[run]) for run in (result.first, result.second)]
    return {
        "metric": context.params.model(result.model).evaluation.metric,
        "later_rows": int(result.later[context.params.model(result.model).training.target].notna().sum()),
        "versions": [_version(result, run) for run in (result.first, result.second)],
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
        "account": _account(result).as_dict(),
        "airflow_s_per_task": sum(overhead) / len(overhead),
        "seconds": result.seconds,
    }


def _version(result: DemoResult, run: str) -> dict[str, Any]:
    ledger, model = result.context.ledger, result.context.params.model(result.model)
    rollout = ledger.events(RolloutEnded, run=run)[-1]
    verdicts = ledger.events(GatesChecked, run=run)[-1].event.verdicts
    version = rollout.event.version
    metric = model.evaluation.metric
    labelled = result.later.dropna(subset=[model.training.target])
    answers = Runtime.load(result.context.registry.package_folder(result.model, version)).predict_frame(labelled)
    return {
        "version": version,
        "as_of": ledger.events(RunOpened, run=run)[-1].event.as_of,
        "held_out": result.context.registry.version_facts(result.model, version).metrics[metric],
        "later": tasks.of(model.training).scores(labelled[model.training.target].to_numpy(), tasks.Answers(answers))[
            metric
        ],
        "gates": len(verdicts),
        "gates_passed": sum(verdict["passed"] for verdict in verdicts),
        "trigger_to_live_s": _seconds(_triggered_at(run), rollout.at),
        **{
            key: rollout.body[key] for key in ("engine", "engine_reason", "slot", "ready_s", "switch_s", "to_traffic_s")
        },
    }


def _triggered_at(run: str) -> str:
    """The time of the trigger, which Airflow writes into a run's id."""
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
    """Seconds a task that Airflow adds: from the trigger to the end of the last step, minus the steps' own seconds."""
    last = context.ledger.events(StepEnded, run=run)[-1]
    return (_seconds(_triggered_at(run), last.at) - measured["wall_s"]) / len(measured["steps"])


def _seconds(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
