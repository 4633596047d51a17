"""The page of a model: its versions over time with drift, live quality, retrains, rollbacks and costs on one axis, and its versions in a table."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path
from typing import Any

from pipeline.context import Context
from pipeline.errors import SettingsError
from pipeline.html.templates import rendered
from pipeline.ledger.decision_events import Backtested
from pipeline.ledger.newest_events import newest_of
from pipeline.pages import charts
from pipeline.pages.downloads import Table
from pipeline.pages.kept_settings import with_kept_settings
from pipeline.pages.model_chart import figure
from pipeline.pages.model_history import History, history

# The page's tables: each is a field of History.
PARTS = {
    "versions": (
        *("version", "state", "registered_at", "as_of", "live_from", "live_until", "times_live", "held_out", "gates"),
        *("run", "run_cost", "currency", "outcome", "data_version", "alias", "event"),
    ),
    "looks": (
        *("at", "as_of", "version", "verdict", "times_limit", "feature", "moved", "metric", "live_quality"),
        *("live_low", "live_high", "held_out", "labelled", "report", "event"),
    ),
    "happened": ("at", "what", "said", "run", "event"),
    "costs": ("month", "cost", "currency", "known", "idle_share", "idle_cost", "slots_watched"),
}


def model_page(context: Context, model: str) -> str:
    """The page as HTML. Raises SettingsError for a model that neither params.yaml nor the ledger has."""
    return rendered(Path(__file__).with_name("model.html"), facts(context, model))


def table(context: Context, model: str, part: str = "versions") -> Table:
    """One of the page's tables, oldest first. Raises SettingsError for an unknown model or part."""
    if part not in PARTS:
        raise SettingsError(f"table {part}", "is not known", f"must be one of {', '.join(PARTS)}")
    return Table(PARTS[part], getattr(history(with_kept_settings(context), model), part))


def facts(context: Context, model: str) -> dict[str, Any]:
    """The template's values."""
    context = with_kept_settings(context)
    past = history(context, model)
    tested = newest_of(context.ledger, Backtested, model, 1).entries
    block = context.params.models.get(model)
    return {
        "model": model,
        "description": block.description if block is not None else "",
        "broken": str(context.params.broken.get(model, "")),
        "sentence": _sentence(past),
        "versions": past.versions[::-1],
        "looks": past.looks[::-1],
        "happened": past.happened[::-1],
        "costs": past.costs[::-1],
        "costs_until": past.costs_until,
        "currency": past.currency,
        "fault": past.fault,
        "left_out": past.left_out,
        "empty": not (past.live or past.versions or past.looks or past.happened or past.costs),
        "backtested": bool(tested),
        "figure": figure(past, context.clock().astimezone(UTC)),
        "plotly": charts.version(),
    }


def _sentence(past: History) -> str:
    """What the chart shows, in words."""
    live = past.live[-1] if past.live and past.live[-1].end is None else None
    told = [f"version {live.version} is live since {live.start[:16].replace('T', ' ')}" if live else "nothing is live"]
    counts = {what: sum(each["what"] == what for each in past.happened) for what in ("retrain", "rollback", "incident")}
    told.append(", ".join(f"{count} {what}{'s' if count != 1 else ''}" for what, count in counts.items()))
    if past.looks:
        last = past.looks[-1]
        far = f", {last['times_limit']:.2f} times the limit" if last["times_limit"] is not None else ""
        drifted = sum(each["verdict"] == "drift" for each in past.looks)
        told.append(
            f"looks: {len(past.looks)}, of which {drifted} found drift; the last one says {last['verdict']}{far}"
        )
    known = [each for each in past.looks if each["live_quality"] is not None]
    if known:
        last = known[-1]
        both = None not in (last["live_low"], last["live_high"])
        span = f" ({last['live_low']:.4g} to {last['live_high']:.4g})" if both else ""
        told.append(f"{last['metric']} was last {last['live_quality']:.4g}{span}")
    if past.costs:
        of = f"{sum(each['cost'] for each in past.costs):,.2f} {past.currency}"
        told.append(f"it cost {of} in {len(past.costs)} month{'s' if len(past.costs) != 1 else ''}")
    return "; ".join(told)
