"""Whether automation pays: its savings by four channels, what it cost, and the month in which it breaks even.

    break-even, months = 12 * investment / (models * savings a model and year - bill a year)

low pairs the lowest investment with the highest savings, high the other way round, mid takes the middles. Savings, investments and the
hours by hand are claims of the baseline's source until a team states its own; deployments, their time and the bill are measured.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from itertools import repeat
from statistics import median
from typing import Any

import sqlalchemy as sa

from pipeline.accounts import published
from pipeline.accounts.deployment_figures import Happened, History, history
from pipeline.accounts.figures import NAMED
from pipeline.accounts.lines import FAILED, KILLED, PEOPLE, SERVICES, STEPS, Known, ms_of, total
from pipeline.accounts.maturity import maturity
from pipeline.accounts.money import as_float
from pipeline.accounts.source_example import CHANNELS, INVESTMENTS, source_example
from pipeline.accounts.statement import Statement, Terms, statement
from pipeline.ledger.rollout_events import RolledBack, RolloutEnded, Undeployed
from pipeline.ledger.store import EVENTS, Ledger, now
from pipeline.settings.accounts import Baseline, Prices

YEAR_MS, MONTH_MS = 365.25 * 86_400_000, 365.25 * 86_400_000 / 12
MACHINE = (STEPS, FAILED, KILLED)
HOURS = ("manual_engineer_hours_per_deployment", "automated_engineer_hours_per_deployment")


@dataclass(frozen=True)
class Saving:
    """What one channel saved so far, in money, from `low` to `high`."""

    channel: str
    low: float
    high: float
    known: Known
    how: str
    events: Sequence[int] = ()

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "count": len(self.events), "events": list(self.events)[-NAMED:]}


@dataclass(frozen=True)
class Roi:
    """`model` is '' for all. `models` is how many have a deployment, `model_years` how long each of them has, added up."""

    model: str
    bill: Statement
    baseline: Baseline
    past: History
    models: int
    model_years: float
    months: float
    start: str
    savings: Sequence[Saving]
    hours: tuple[float, float]
    example: dict[str, Any] = field(default_factory=source_example)

    @property
    def deployments(self) -> int:
        return len(self.past.live)

    @cached_property
    def machine_cost(self) -> float:
        return as_float(total(line for line in self.bill.lines if line.part in MACHINE))

    @property
    def bill_a_month(self) -> float:
        """What the bill comes to in a month; a ledger of less than one has its whole bill in it."""
        return as_float(self.bill.total) / max(self.months, 1.0)

    def break_even(self, models: int, bill_a_month: float) -> dict[str, Any]:
        """Months until the investment, of one portfolio, is earned by `models`, from low to high; None where it never is."""
        pairs = self.pairs()
        found: dict[str, Any] = {"models": models}
        for name, (investment, savings) in pairs.items():
            net = models * savings / 12 - bill_a_month
            months = investment / net if net > 0 else None
            found |= {f"{name}_months": months, f"{name}_month": self._month_after(months)}
        yours = {self.baseline.known(name) for name in (*INVESTMENTS, *CHANNELS)}
        return {**found, "known": "claimed" if "claimed" in yours else "yours"}

    def pairs(self) -> dict[str, tuple[float, float]]:
        """(the investment, what a model saves in a year) of low, mid and high."""
        invested = [sum(getattr(self.baseline, name)[end] for name in INVESTMENTS) for end in (0, 1)]
        saved = [sum(getattr(self.baseline, name)[end] for name in CHANNELS) for end in (0, 1)]
        return {
            "low": (invested[0], saved[1]),
            "mid": (sum(invested) / 2, sum(saved) / 2),
            "high": (invested[1], saved[0]),
        }

    def _month_after(self, months: float | None) -> str | None:
        """The month like 2027-04, counted from the ledger's first one; None for never, or beyond the calendar."""
        if months is None or not self.start:
            return None
        first = datetime.fromisoformat(self.start)
        place = first.year * 12 + first.month - 1 + int(months)
        return f"{place // 12:04d}-{place % 12 + 1:02d}" if place // 12 < 9999 else None

    def as_dict(self) -> dict[str, Any]:
        return {
            **self.hours_as_dict(),
            "bill": as_float(self.bill.total),
            "bill_a_month": self.bill_a_month,
            "models": self.models,
            "model_years": self.model_years,
            "savings": [saving.as_dict() for saving in self.savings],
            "saved_low": sum(saving.low for saving in self.savings),
            "saved_high": sum(saving.high for saving in self.savings),
            "investment": self._investment(),
            "break_even": self.break_even(max(self.models, 1), self.bill_a_month),
            "by_model": self._by_model(),
            "marginal_model": self._marginal(),
            "maturity": maturity(self.past),
            "source_example": self.example,
            "measured": ["deployments", "machine_cost", "bill", "models", "model_years", "marginal_model", "maturity"],
            "claimed": ["engineer_hours_saved_low", "engineer_hours_saved_high", "net_low", "net_high"],
            "baseline_source": self.baseline.source,
            "not_converted": self.not_converted,
        }

    @property
    def not_converted(self) -> str:
        """That claims are in another currency than the prices, in a sentence; '' where they are in the same, or nothing is claimed."""
        claims = [name for name in (*INVESTMENTS, *CHANNELS) if self.baseline.known(name) == "claimed"]
        if not claims or self.bill.currency == published.CURRENCY:
            return ""
        return (
            f"amounts that are claimed are {published.CURRENCY}, as the study has them, and not converted to {self.bill.currency}: "
            f"state your own in baseline of params.yaml"
        )

    def hours_as_dict(self) -> dict[str, Any]:
        """Deployments and engineer hours alone: machine time against hours by hand."""
        low, high = self.hours
        return {
            "model": self.model or None,
            "deployments": self.deployments,
            "machine_cost": self.machine_cost,
            "engineer_hours_saved_low": low,
            "engineer_hours_saved_high": high,
            "net_low": self.savings[0].low - self.machine_cost,
            "net_high": self.savings[0].high - self.machine_cost,
            "currency": self.bill.currency,
        }

    def _investment(self) -> dict[str, Any]:
        ranges = {name: getattr(self.baseline, name) for name in INVESTMENTS}
        return {
            "low": sum(low for low, _ in ranges.values()),
            "high": sum(high for _, high in ranges.values()),
            "parts": {
                name: {"low": low, "high": high, "known": self.baseline.known(name)}
                for name, (low, high) in ranges.items()
            },
        }

    def _by_model(self) -> list[dict[str, Any]]:
        """Each model's bill and its own break-even, with an even share of the investment."""
        if self.model:
            return []
        bills = self.bill.by(lambda line: line.model)
        counts: dict[str, int] = {}
        for each in self.past.live:
            counts[each.model] = counts.get(each.model, 0) + 1
        rows = []
        for name, count in counts.items():
            bill = bills.get(name, 0)
            a_month = as_float(bill) / max(self.months, 1.0)
            share = self.break_even(max(self.models, 1), a_month * max(self.models, 1))
            rows.append(
                {
                    "model": name,
                    "deployments": count,
                    "bill": as_float(bill),
                    "bill_a_month": a_month,
                    "break_even": share,
                }
            )
        return rows

    def _marginal(self) -> dict[str, Any]:
        """What one more model costs in a month, by those that are there: all but their share of the services, which are there anyway."""
        own: dict[str, int] = {}
        live = {each.model for each in self.past.live}
        for line in self.bill.lines:
            if line.part != SERVICES and line.model in live:
                own[line.model] = own.get(line.model, 0) + line.amount
        each = [as_float(amount) / max(self.months, 1.0) for amount in own.values()]
        return {
            "a_month_low": min(each, default=None),
            "a_month_median": median(each) if each else None,
            "a_month_high": max(each, default=None),
            "known": "guess" if any(line.known == "guess" for line in self.bill.lines) else "measured",
        }


def roi(
    ledger: Ledger,
    terms: Terms,
    baseline: Baseline,
    *,
    model: str = "",
    until: str = "",
    bill: Statement | None = None,
) -> Roi:
    """The account of automation for `model`, '' for all, up to `until`, which is now by default. `bill` is that account where the caller has
    it already. Raises LedgerError."""
    until = bill.until if bill is not None else until or now()
    bill = bill or statement(ledger, terms, model=model, until=until)
    past = history(ledger, model, until)
    first: dict[str, Happened] = {}
    for each in past.live:
        first.setdefault(each.model, each)
    years = sum(map(_live_ms, _by_model(past).values(), repeat(past.until))) / YEAR_MS
    begun = ledger.rows(sa.select(EVENTS.c.at).order_by(EVENTS.c.seq).limit(1))
    start = begun[0].at if begun else ""
    months = (past.until - ms_of(start)) / MONTH_MS if start else 0.0
    engineers, hours = _engineer_time(bill, past, baseline, terms.prices)
    savings = [engineers, _incidents(past, baseline, years)]
    savings += [_claimed(baseline, name, years) for name in ("saved_time_to_market", "saved_compute")]
    return Roi(model, bill, baseline, past, len(first), years, months, start, savings, hours)


def _live_ms(moves: Sequence[Happened], until: int) -> int:
    """How long something of a model was live, of its moves in their order; milliseconds."""
    total, since = 0, None
    for each in moves:
        if each.kind == Undeployed.KIND:
            total, since = total + (each.at - since if since is not None else 0), None
        elif since is None:
            since = each.at
    return total + (until - since if since is not None else 0)


def _by_model(past: History) -> dict[str, list[Happened]]:
    """What went live and what was taken off, by model."""
    moves: dict[str, list[Happened]] = {}
    for each in past.of(RolloutEnded, Undeployed):
        moves.setdefault(each.model, []).append(each)
    return moves


def _engineer_time(
    bill: Statement, past: History, baseline: Baseline, prices: Prices
) -> tuple[Saving, tuple[float, float]]:
    """What the hours by hand cost, each deployment's at the price of its day, minus ours, as stated, else the automated ones of the baseline;
    and these hours."""
    by_hand, automated = (getattr(baseline, name) for name in HOURS)
    periods = [each.engineer_hour for _, each in prices.periods]
    begins = [ms_of(since) for since, _ in prices.periods[1:]]
    at = [periods[bisect_right(begins, each.at)] for each in past.live]
    people = [line for line in bill.lines if line.part == PEOPLE]
    stated = bool(people) and all(line.counted == "yours" for line in people)
    if stated:
        spent, paid = sum(line.quantity for line in people) / 60, as_float(total(people))
        hours = len(at) * by_hand[0] - spent, len(at) * by_hand[1] - spent
        low, high = (sum(at) * each - paid for each in by_hand)
    else:
        a_deployment = by_hand[0] - automated[1], by_hand[1] - automated[0]
        hours = len(at) * a_deployment[0], len(at) * a_deployment[1]
        low, high = (sum(at) * each for each in a_deployment)
    claims = {baseline.known(name) for name in (HOURS[:1] if stated else HOURS)}
    prices_said = " to ".join(f"{price:g}" for price in sorted({min(at, default=0.0), max(at, default=0.0)}))
    how = f"{hours[0]:,.1f} to {hours[1]:,.1f} hours of {len(at):,} deployments at {prices_said} an hour"
    known: Known = "claimed" if "claimed" in claims else "yours"
    return Saving("engineer time", low, high, known, how, [each.seq for each in past.live]), hours


def _incidents(past: History, baseline: Baseline, years: float) -> Saving:
    if baseline.incident_cost is None:
        return _claimed(baseline, "saved_incidents", years)
    failed = sorted([*past.undone, *past.of(RolledBack)], key=lambda each: each.seq)
    count, cost = len(past.live), baseline.incident_cost
    low, high = (cost * (count * share - len(failed)) for share in baseline.manual_failed_share)
    how = f"{count} deployments by hand would fail in {baseline.manual_failed_share[0]:.0%} to {baseline.manual_failed_share[1]:.0%}, {len(failed)} did, at {cost:g} each"
    return Saving("incidents", low, high, baseline.known("manual_failed_share"), how, [each.seq for each in failed])


def _claimed(baseline: Baseline, name: str, years: float) -> Saving:
    low, high = getattr(baseline, name)
    how = f"{low:,.0f} to {high:,.0f} a model and year, over {years:.2f} model-years"
    return Saving(name.removeprefix("saved_").replace("_", " "), low * years, high * years, baseline.known(name), how)
