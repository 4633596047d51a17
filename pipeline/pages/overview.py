"""The overview: models with what is live, the runs with their costs, the deployments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.context import Context
from pipeline.deployer import traffic
from pipeline.ledger import costs
from pipeline.ledger.timeline import sentence
from pipeline.pages.templates import rendered
from pipeline.registry import versions as registry

RUNS_SHOWN = 25
MOVES = ("rollout_ended", "rolled_back", "rollout_failed", "shadow_ended")


def overview_page(context: Context) -> str:
    """The page as HTML. Everything on it is read from the route files and the ledger."""
    return rendered("overview.html", facts(context))


def facts(context: Context) -> dict[str, Any]:
    """What the page shows."""
    runs = list(reversed(costs.runs(context.ledger, context.params.prices)))
    most = max((run["cost"] for run in runs[:RUNS_SHOWN]), default=0.0) or 1.0
    gates = {e.run: e.body["verdicts"] for e in context.ledger.events(kind="gates_checked")}
    data = {e.run: e.body["data_version"] for e in context.ledger.events(kind="data_landed")}
    outcomes = {e.run: e.body["outcome"] for e in context.ledger.events(kind="run_settled")}
    outcomes |= {e.run: sentence(e) for e in context.ledger.events(kind="drift_checked")}
    moves = [
        {"at": e.at, "model": e.model, "kind": e.kind, "what": sentence(e), **e.body}
        for e in context.ledger.events(kind=MOVES)
    ]
    return {
        "models": [{**m, "drift": _last_drift(context, m["model"])} for m in traffic(context).status("")],
        "runs": [
            {
                **run,
                "share": run["cost"] / most,
                "verdicts": gates.get(run["run"], []),
                "outcome": outcomes.get(run["run"], ""),
                "data_version": data.get(run["run"], ""),
            }
            for run in runs[:RUNS_SHOWN]
        ],
        "runs_in_all": len(runs),
        "cost_in_all": sum(run["cost"] for run in runs),
        "moves": list(reversed(moves)),
        "roi": costs.roi(context.ledger, context.params.prices, context.params.baseline),
    }


def _last_drift(context: Context, model: str) -> dict[str, Any] | None:
    found = context.ledger.events(kind="drift_checked", model=model)
    if not found:
        return None
    last = found[-1].body
    return {**last, "report_name": Path(last["report"]).name if last["report"] else None}


def report_file(context: Context, model: str, name: str) -> Path | None:
    """The drift report called `name`, when it is one of the model's own: from this disk, or where workers share none from
    MLflow."""
    known = {path.name: path for path in (context.home / "reports").glob("*/*.html") if path.parent.name == model}
    if name in known or not context.apart:
        return known.get(name)
    checked = context.ledger.events(kind="drift_checked", model=model)
    of = {Path(e.body["report"]).name: e.body["champion"] for e in checked if e.body["report"]}
    return registry.report_file(context.home, model, of[name], name) if name in of else None
