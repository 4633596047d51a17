"""The page of all models, a line each: what is live and how old, how it does, what comes next, what it cost and earned this month.

It is read from the ledger and the settings alone, by the newest events of each model, so that 200 models and years of events take it
little. The overview asks the slots.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from croniter import croniter

from pipeline.accounts.closed_months import bill_so_far
from pipeline.accounts.idle import idle_by_model
from pipeline.accounts.money import as_float
from pipeline.accounts.statement import Terms
from pipeline.context import Context
from pipeline.errors import SettingsError
from pipeline.html.templates import rendered
from pipeline.ledger.events import DriftChecked, VersionRegistered
from pipeline.ledger.newest_looks import newest_looks
from pipeline.ledger.receipt_events import DecisionSettled
from pipeline.ledger.rollout_events import MOVES, Undeployed
from pipeline.ledger.rollup_parts import HAPPENED
from pipeline.ledger.rollups import rolled_up
from pipeline.ledger.slo_events import BudgetBurning, BudgetCalm
from pipeline.ledger.store import Entry, Ledger
from pipeline.pages.downloads import Table
from pipeline.pages.kept_settings import with_kept_settings
from pipeline.pages.model_history import settings_digest
from pipeline.policy.freeze import all_frozen
from pipeline.settings.models import Model, time_of

COLUMNS = (
    *("model", "team", "state", "version", "as_of", "age_days", "live_since", "health", "drift", "looked_as_of"),
    *("next_run", "cost_this_month", "worth_this_month", "currency", "idle_share_this_month", "idle_cost_this_month"),
    "costs_until",
)


def portfolio_page(context: Context) -> str:
    """The page as HTML."""
    found = lines(context)
    until = next((line["costs_until"] for line in found), None)
    facts = {
        "lines": found,
        "until": until,
        "columns": COLUMNS,
        "live": sum(line["version"] is not None for line in found),
    }
    return rendered(Path(__file__).with_name("portfolio.html"), facts)


def table(context: Context) -> Table:
    """The same as a file."""
    return Table(COLUMNS, lines(context))


def lines(context: Context) -> list[dict[str, Any]]:
    """A line for each model of params.yaml and of the ledger, by name, with COLUMNS as keys."""
    context = with_kept_settings(context)
    ledger, params, now = context.ledger, context.params, context.clock().astimezone(UTC)
    names = sorted({*params.models, *params.broken, *ledger.models()})
    moves = _by_model(ledger.newest(*MOVES, Undeployed))
    looks, burning = newest_looks(ledger, DriftChecked), _by_model(ledger.newest(BudgetBurning, BudgetCalm))
    as_ofs = _as_ofs(ledger)
    frozen, worth = all_frozen(ledger, params.models, names, now), _worth(context, now)
    costs, idle, until = _costs(context, now)
    found = []
    for name in names:
        live, look = moves.get(name), looks.get(name)
        if live is not None and isinstance(live.event, Undeployed):
            live = None
        version = live.event.version if live is not None else None
        as_of = as_ofs.get((name, version)) if version else None
        block = params.models.get(name)
        burns = name in burning and isinstance(burning[name].event, BudgetBurning)
        found.append(
            {
                "model": name,
                "team": block.team if block else None,
                "state": _state(context, name, live is not None, frozen.get(name, "")),
                "version": version,
                "as_of": as_of,
                "age_days": round((now - time_of(as_of)).total_seconds() / 86_400, 1) if as_of else None,
                "live_since": live.at if live is not None else None,
                "health": burning[name].event.sentence() if burns else _calm(block) if live else None,
                "drift": look.event.verdict if look is not None else None,
                "looked_as_of": look.event.as_of if look is not None else None,
                "next_run": _next_run(block.schedule if block else None, now),
                "cost_this_month": costs.get(name),
                "worth_this_month": worth.get(name),
                "currency": _currency(context),
                "costs_until": until,
                **{f"{key}_this_month": idle.get(name, {}).get(key) for key in ("idle_share", "idle_cost")},
            }
        )
    return found


def _by_model(entries: list[Entry[Any]]) -> dict[str, Entry[Any]]:
    return {entry.model: entry for entry in entries}


def _state(context: Context, name: str, live: bool, frozen: str) -> str:
    if name in context.params.broken:
        return "broken block"
    if frozen:
        return "frozen"
    if name not in context.params.models:
        return "live, not in params.yaml" if live else "not in params.yaml"
    return "live" if live else "not live yet"


def _calm(block: Model | None) -> str:
    """The health of a live model no budget of which burns."""
    return "within its budgets" if block is not None and block.slo is not None else "no objectives (slo)"


def _next_run(schedule: Any, now: datetime) -> str | None:
    """When the schedule starts the next run, ISO 8601 UTC; None without one, and after its end."""
    if schedule is None:
        return None
    at = datetime.fromtimestamp(_next_time(schedule.cron, max(now, schedule.start).timestamp()), UTC)
    return at.isoformat() if schedule.end is None or at <= schedule.end else None


@lru_cache(512)
def _next_time(cron: str, after: float) -> float:
    """Once for all models with the same schedule."""
    return next(croniter(cron, after, ret_type=float))


def _costs(context: Context, now: datetime) -> tuple[Mapping[str, float], Mapping[str, Mapping[str, Any]], str | None]:
    """(what each model cost this month, in the currency of prices, the idle share of its slots, until when); empty where prices are broken."""
    try:
        terms = Terms.of(context.params)
    except SettingsError:
        return {}, {}, None
    month, bill = f"{now:%Y-%m}", bill_so_far(context.ledger, terms, settings_digest(context), by_month=True)
    lines, sums = [line for line in bill.lines if line.month == month], dict[str, int]()
    for line in lines:
        sums[line.model] = sums.get(line.model, 0) + line.amount
    idle = idle_by_model(lines, [each for each in bill.idle if each.month == month])
    return {model: as_float(amount) for model, amount in sorted(sums.items())}, idle, bill.until


def _worth(context: Context, now: datetime) -> dict[str, float]:
    """What the retrains that were settled this month saved, less what they cost, in the currency of prices."""
    found: dict[str, float] = {}
    currency = _currency(context)
    for entry in context.ledger.events(DecisionSettled, since=f"{now:%Y-%m}"):
        settled = entry.event
        if entry.at.startswith(f"{now:%Y-%m}") and settled.currency in ("", currency):
            found[entry.model] = found.get(entry.model, 0.0) + settled.saved - settled.cost
    return found


def _as_ofs(ledger: Ledger) -> dict[tuple[str, str], str]:
    """The as-of of each version, by model and version."""
    registered = VersionRegistered.KIND
    rows = rolled_up(ledger, HAPPENED)[HAPPENED]
    return {(model, version): as_of for model, _, _, kind, _, version, _, _, as_of, *_ in rows if kind == registered}


def _currency(context: Context) -> str | None:
    try:
        return context.params.prices.currency
    except SettingsError:
        return None
