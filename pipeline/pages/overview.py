"""The overview page: the models and their live versions, the runs and their costs, the deployments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.accounts.roi import roi
from pipeline.accounts.statement import Terms
from pipeline.context import Context
from pipeline.data.label_delay import LabelDelay
from pipeline.deployer import traffic
from pipeline.deployer.status import faults
from pipeline.gates.base import Verdict
from pipeline.gates.report import LOOKS
from pipeline.html.templates import rendered
from pipeline.ledger import costs
from pipeline.ledger.decision_events import Backtested
from pipeline.ledger.events import DataLanded, DriftChecked, GatesChecked, RunSettled
from pipeline.ledger.receipt_events import DecisionSettled, RetrainDecided
from pipeline.ledger.rollout_events import RolledBack, RolloutEnded, RolloutFailed, ShadowEnded, Undeployed
from pipeline.runs.drift_report import evidently_file

RUNS_SHOWN = 25
DEPLOYMENTS = (RolloutEnded, RolledBack, RolloutFailed, ShadowEnded, Undeployed)


def overview_page(context: Context) -> str:
    """The page as HTML. All of it is read from the route files and the ledger."""
    return shown(facts(context))


def shown(facts: dict[str, Any]) -> str:
    """The template filled with what `facts` gives."""
    return rendered(Path(__file__).with_name("overview.html"), facts, {"label_delay": LabelDelay.read})


def facts(context: Context) -> dict[str, Any]:
    """The template's values."""
    ledger, params = context.ledger, context.params
    # Without prices no run has a cost: the page shows the fault in their place.
    priced = not {"", "prices", "baseline"} & set(params.faults)
    runs = [run.as_dict() for run in reversed(costs.run_costs(ledger, params.prices))] if priced else []
    highest = max((run["cost"] for run in runs[:RUNS_SHOWN]), default=0.0) or 1.0
    gates = {entry.run: [*map(Verdict.from_dict, entry.event.verdicts)] for entry in ledger.events(GatesChecked)}
    data = {entry.run: entry.event.data_version for entry in ledger.events(DataLanded)}
    outcomes = {entry.run: entry.event.outcome for entry in ledger.events(RunSettled)}
    outcomes |= {entry.run: entry.event.sentence() for entry in ledger.events(DriftChecked)}
    moves = [
        {"at": entry.at, "model": entry.model, "kind": entry.kind, "what": entry.event.sentence(), **entry.body}
        for entry in ledger.events(*DEPLOYMENTS)
    ]
    decided = {entry.model: entry.event for entry in ledger.newest(RetrainDecided)}
    settled = {entry.model: entry.event.sentence() for entry in ledger.newest(DecisionSettled)}
    backtested = {entry.model: entry.event.sentence() for entry in ledger.newest(Backtested)}
    return {
        "models": [
            {
                **status.as_dict(),
                "drift": _last_drift(context, status.model),
                "decided": decided.get(status.model),
                "settled": settled.get(status.model),
                "backtested": backtested.get(status.model),
            }
            for status in traffic(context).status("")
        ],
        "runs": [
            {
                **run,
                "share": run["cost"] / highest,
                "verdicts": gates.get(run["run"], []),
                "outcome": outcomes.get(run["run"], ""),
                "data_version": data.get(run["run"], ""),
            }
            for run in runs[:RUNS_SHOWN]
        ],
        "runs_in_all": len(runs),
        "cost_in_all": sum(run["cost"] for run in runs),
        "moves": list(reversed(moves)),
        "roi": roi(ledger, Terms.of(params), params.baseline).as_dict() if priced else None,
        "looks": LOOKS,
        "faults": faults(context),
    }


def _last_drift(context: Context, model: str) -> dict[str, Any] | None:
    checks = context.ledger.events(DriftChecked, model=model)
    if not checks:
        return None
    report = checks[-1].event.report
    return {**checks[-1].body, "report_name": Path(report).name if report else None}


def report_file(context: Context, model: str, name: str) -> Path | None:
    """The model's drift report called `name`, or None: from this disk, or from MLflow where workers share no disk."""
    local = {path.name: path for path in (context.home / "reports").glob("*/*.html") if path.parent.name == model}
    if name in local or not context.server_mode:
        return local.get(name)
    checks = [entry.event for entry in context.ledger.events(DriftChecked, model=model)]
    champions = {Path(check.report).name: check.champion for check in checks if check.report}
    # An alarm has Evidently's page too.
    champions |= {evidently_file(Path(page)).name: version for page, version in champions.items()}
    return context.registry.report_file(model, champions[name], name) if name in champions else None
