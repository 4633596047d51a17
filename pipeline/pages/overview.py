"""The overview page: the models and their live versions, the runs and their costs, the deployments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.accounts.closed_months import bill_so_far
from pipeline.accounts.roi import roi
from pipeline.accounts.statement import Terms, newest_runs
from pipeline.context import Context
from pipeline.data.label_delay import LabelDelay
from pipeline.deployer.status import faults
from pipeline.gates.base import Verdict
from pipeline.gates.report import LOOKS
from pipeline.html.templates import rendered
from pipeline.ledger import costs
from pipeline.ledger.decision_events import Backtested
from pipeline.ledger.events import DataLanded, DriftChecked, GatesChecked, RunSettled, StepEnded, StepStarted
from pipeline.ledger.newest_looks import newest_looks
from pipeline.ledger.receipt_events import DecisionSettled, RetrainDecided
from pipeline.ledger.rollout_events import RolledBack, RolloutEnded, RolloutFailed, ShadowEnded, Undeployed
from pipeline.ledger.store import Entry, Ledger
from pipeline.pages import newest_status
from pipeline.pages.kept_settings import with_kept_settings
from pipeline.pages.model_history import settings_digest
from pipeline.pages.newest_status import Look
from pipeline.runs.drift_report import evidently_file
from pipeline.settings.accounts import Prices

RUNS_SHOWN, MOVES_SHOWN = 25, 25
DEPLOYMENTS = (RolloutEnded, RolledBack, RolloutFailed, ShadowEnded, Undeployed)
# Of a run the page tells these.
TOLD = (GatesChecked.KIND, DataLanded.KIND, RunSettled.KIND, DriftChecked.KIND)


def overview_page(context: Context) -> str:
    """The page as HTML: what is live, by the newest look at it, which says when it was made; all else is as the ledger has it now."""
    context = with_kept_settings(context)
    look = newest_status.begin(context)
    return shown(facts(context, look))


def shown(facts: dict[str, Any]) -> str:
    """The template filled with what `facts` gives."""
    return rendered(Path(__file__).with_name("overview.html"), facts, {"label_delay": LabelDelay.read})


def facts(context: Context, newest: Callable[[], Look]) -> dict[str, Any]:
    """The template's values; `newest` gives the look at what is live once all else is read."""
    ledger, params = context.ledger, context.params
    # Without prices no run has a cost: the page shows the fault in their place.
    priced = not {"", "prices", "baseline"} & set(params.faults)
    runs = _runs(ledger, params.prices) if priced else []
    highest = max((run["cost"] for run in runs), default=0.0) or 1.0
    moves = [
        {"at": entry.at, "model": entry.model, "kind": entry.kind, "what": entry.event.sentence(), **entry.body}
        for entry in ledger.latest(*DEPLOYMENTS, count=MOVES_SHOWN + 1)
    ]
    looks = newest_looks(ledger, DriftChecked)
    decided = {name: entry.event for name, entry in newest_looks(ledger, RetrainDecided).items()}
    settled = {entry.model: entry.event.sentence() for entry in ledger.newest(DecisionSettled)}
    backtested = {entry.model: entry.event.sentence() for entry in ledger.newest(Backtested)}
    earned = _earned(context) if priced else None
    look = newest()
    return {
        "models": [
            {
                **status,
                "drift": _drift(looks.get(status["model"])),
                "decided": decided.get(status["model"]),
                "settled": settled.get(status["model"]),
                "backtested": backtested.get(status["model"]),
            }
            for status in look.models
        ],
        "runs": [{**run, "share": run["cost"] / highest} for run in runs],
        "moves": list(reversed(moves[-MOVES_SHOWN:])),
        "more_moves": len(moves) > MOVES_SHOWN,
        "asked_at": look.at,
        "roi": earned,
        "looks": LOOKS,
        "faults": faults(context),
    }


def _earned(context: Context) -> dict[str, Any]:
    """What automation earned, by the bill that pages keep."""
    ledger, terms = context.ledger, Terms.of(context.params)
    bill = bill_so_far(ledger, terms, settings_digest(context))
    baseline = context.params.baseline
    earned = roi(ledger, terms, baseline, bill=bill)
    return {**earned.hours_as_dict(), "baseline_source": baseline.source, "until": bill.until}


def _runs(ledger: Ledger, prices: Prices) -> list[dict[str, Any]]:
    """The newest runs with what they cost, came to, checked and landed, the newest first."""
    found = []
    with ledger.reading():
        for name in newest_runs(ledger, count=RUNS_SHOWN):
            entries: list[Entry[Any]] = ledger.events(run=name)
            run = costs.costs_of_run([e for e in entries if e.kind in (StepStarted.KIND, StepEnded.KIND)], prices)
            of = {entry.kind: entry.event for entry in entries if entry.kind in TOLD}
            found.append({**run.as_dict(), **_told(of)})
    return found


def _told(of: Mapping[str, Any]) -> dict[str, Any]:
    """What the newest events of a run, by kind, say of it."""
    gates, data = of.get(GatesChecked.KIND), of.get(DataLanded.KIND)
    looked, settled = of.get(DriftChecked.KIND), of.get(RunSettled.KIND)
    return {
        "verdicts": [Verdict.from_dict(verdict) for verdict in gates.verdicts] if gates else [],
        "outcome": looked.sentence() if looked else settled.outcome if settled else "",
        "data_version": data.data_version if data else "",
    }


def _drift(look: Entry[DriftChecked] | None) -> dict[str, Any] | None:
    if look is None:
        return None
    report = look.event.report
    return {**look.body, "report_name": Path(report).name if report else None}


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
