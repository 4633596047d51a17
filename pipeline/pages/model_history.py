"""What the page of a model shows: its versions, the looks at it, what happened, and what it cost a month, from the newest events.

Each kind is read by the ledger's index and bounded, so that a model of many years takes no longer; what is left out is said.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.accounts.closed_months import bill_so_far
from pipeline.accounts.idle import idle_of
from pipeline.accounts.money import as_float
from pipeline.accounts.statement import Terms
from pipeline.context import Context
from pipeline.errors import SettingsError
from pipeline.ledger.events import DriftChecked, Event, GatesChecked, RunOpened, RunSettled, VersionRegistered
from pipeline.ledger.newest_events import Newest, has_events, newest_of
from pipeline.ledger.rollout_events import MOVES, RolledBack, RolloutFailed, SlotDied, Undeployed
from pipeline.ledger.slo_events import BudgetBurning, BudgetSpent
from pipeline.ledger.store import Entry

VERSIONS, LOOKS, HAPPENED = 200, 300, 200
# What the page calls the events of a kind that it leaves out.
WORDS: Mapping[type[Event], str] = {
    VersionRegistered: "versions",
    GatesChecked: "gate reports",
    RunOpened: "runs",
    RunSettled: "outcomes of runs",
    MOVES[0]: "rollouts",
    RolledBack: "rollbacks",
    Undeployed: "undeploys",
    DriftChecked: "looks",
    RolloutFailed: "failed rollouts",
    SlotDied: "deaths of slots",
    BudgetBurning: "burning budgets",
    BudgetSpent: "spent budgets",
}
COUNTS = dict.fromkeys(WORDS, HAPPENED) | {VersionRegistered: VERSIONS, DriftChecked: LOOKS}
RETRAIN, ROLLBACK, INCIDENT = "retrain", "rollback", "incident"


@dataclass(frozen=True)
class Live:
    """A version had all traffic from `start` to `end` (ISO 8601); `end` is None while it has. `left` says that a rollback ended it."""

    version: str
    start: str
    end: str | None
    seq: int
    left: bool = False


@dataclass(frozen=True)
class History:
    """The page's lines, oldest first. `fault` says why there are no costs; `left_out` says of each kind what was not read."""

    versions: Sequence[Mapping[str, Any]]
    live: Sequence[Live]
    looks: Sequence[Mapping[str, Any]]
    happened: Sequence[Mapping[str, Any]]
    costs: Sequence[Mapping[str, Any]]
    currency: str
    fault: str
    left_out: Sequence[str]
    costs_until: str = ""


def history(context: Context, model: str) -> History:
    """The history of a model. Raises SettingsError for one that neither params.yaml nor the ledger has."""
    with context.ledger.reading():
        must_be_known(context, model)
        read: dict[type[Event], Newest[Any]] = {
            kind: newest_of(context.ledger, kind, model, count) for kind, count in COUNTS.items()
        }
    live = live_spans(_moves([read[kind] for kind in (*MOVES, Undeployed)]))
    costs, currency, fault, until = _costs(context, model)
    return History(
        _versions(read, live),
        live,
        [look(entry) for entry in read[DriftChecked].entries],
        _happened(read),
        costs,
        currency,
        fault,
        [f"{found.older:,} {WORDS[kind]} before {found.begins[:10]}" for kind, found in read.items() if found.older],
        until,
    )


def must_be_known(context: Context, model: str) -> None:
    """Raises SettingsError for a model that neither params.yaml nor the ledger has."""
    settings = context.params
    if model not in settings.models and model not in settings.broken and not has_events(context.ledger, model):
        raise SettingsError(f"model {model}", "is not known", "`perennial status` lists the models")


def settings_digest(context: Context) -> str:
    """Names the settings that are read now."""
    file = context.project / "params.yaml"
    return hashlib.sha256(file.read_bytes() if file.is_file() else b"").hexdigest()


def _moves(read: Sequence[Newest[Any]]) -> list[Entry[Any]]:
    """Those from where on all kinds were read: of rollbacks alone, without the rollouts between them, no span is right."""
    begin = max([found.entries[0].seq for found in read if found.older and found.entries], default=0)
    return [entry for found in read for entry in found.entries if entry.seq >= begin]


def live_spans(moves: Iterable[Entry[Any]]) -> list[Live]:
    """When each version was live, oldest first; a move to the version that is live already ends nothing."""
    spans: list[Live] = []
    for entry in sorted(moves, key=lambda entry: entry.seq):
        off, back = isinstance(entry.event, Undeployed), isinstance(entry.event, RolledBack)
        now = spans[-1] if spans and spans[-1].end is None else None
        if now is not None and not off and now.version == entry.event.version:
            continue
        if now is not None:
            spans[-1] = Live(now.version, now.start, entry.at, now.seq, back)
        if not off:
            spans.append(Live(entry.event.version, entry.at, None, entry.seq))
    return spans


def look(entry: Entry[DriftChecked]) -> dict[str, Any]:
    """A look at the model: its verdict, its largest distance as a multiple of the limit, and the live quality with its interval."""
    event, quality = entry.event, entry.event.live_quality or {}
    far = [
        (times, str(each.get("feature", "")))
        for each in event.features or ()
        if (times := times_limit(each)) is not None
    ]
    largest, feature = max(far, default=(None, ""))
    return {
        "at": entry.at,
        "as_of": event.as_of,
        "version": event.champion,
        "verdict": event.verdict,
        "times_limit": None if largest is None else round(largest, 4),
        "feature": feature,
        "moved": ", ".join(map(str, event.moved or ())),
        "metric": quality.get("metric"),
        "live_quality": quality.get("value"),
        "live_low": quality.get("low"),
        "live_high": quality.get("high"),
        "held_out": quality.get("held_out"),
        "labelled": quality.get("labelled"),
        "report": (event.report or "").rpartition("/")[2],
        "event": entry.seq,
    }


def times_limit(feature: Mapping[str, Any]) -> float | None:
    """The feature's largest distance by its limit; None where none was compared. A look of an earlier version has distances and limits alone."""
    if (told := feature.get("times_limit")) is not None:
        return float(told)
    limits = {name.removesuffix("_limit"): value for name, value in feature.items() if name.endswith("_limit")}
    if "limit" in feature:
        limits["psi"] = feature["limit"]
    pairs = [(feature.get(name, feature.get(f"{name}_now")), limit) for name, limit in limits.items()]
    return max((float(value) / float(limit) for value, limit in pairs if value is not None and limit), default=None)


def _versions(read: Mapping[type[Event], Newest[Any]], live: Sequence[Live]) -> list[dict[str, Any]]:
    """A line a registration: a number can be registered anew, for another package. What was live without one has a line too."""
    gates = {entry.run: entry for entry in read[GatesChecked].entries if entry.run}
    settled = {entry.run: entry.event for entry in read[RunSettled].entries if entry.run}
    made: dict[str, list[int]] = {}
    for entry in read[VersionRegistered].entries:
        made.setdefault(entry.event.version, []).append(entry.seq)
    spans: dict[tuple[str, int], list[Live]] = {}
    for span in live:
        before = [seq for seq in made.get(span.version, []) if seq < span.seq]
        spans.setdefault((span.version, before[-1] if before else 0), []).append(span)
    found = [_line(version, of) for (version, seq), of in spans.items() if not seq]
    for entry in read[VersionRegistered].entries:
        event, ended, checked = entry.event, settled.get(entry.run), gates.get(entry.run)
        line = _line(event.version, spans.get((event.version, entry.seq), []))
        line |= {"registered_at": entry.at, "as_of": event.as_of, "run": entry.run, "event": entry.seq}
        line |= {"data_version": event.data_version, "alias": event.alias}
        if checked is not None:
            line |= {"held_out": _held_out(checked), "gates": _gates(checked)}
        if ended is not None:
            line |= {"run_cost": ended.cost, "currency": ended.currency, "outcome": ended.outcome}
        found.append(line)
    return found


def _line(version: str, spans: Sequence[Live]) -> dict[str, Any]:
    """What is known of a version by its time with traffic."""
    unknown = ("registered_at", "as_of", "held_out", "gates", "run_cost", "currency", "outcome")
    return {
        "version": version,
        "state": _state(spans),
        "live_from": spans[0].start if spans else None,
        "live_until": spans[-1].end if spans else None,
        "times_live": len(spans),
        **dict.fromkeys(unknown),
        **dict.fromkeys(("run", "data_version", "alias"), ""),
        "event": spans[0].seq if spans else None,
    }


def _state(spans: Sequence[Live]) -> str:
    if not spans:
        return "never live"
    if spans[-1].end is None:
        return "live"
    return "rolled back" if spans[-1].left else "was live"


def _held_out(entry: Entry[GatesChecked]) -> float | None:
    """The metric on the held-out days, as the gate `metric_limit` saw it."""
    return next((v.get("observed") for v in entry.event.verdicts if v["gate"] == "metric_limit"), None)


def _gates(entry: Entry[GatesChecked]) -> str:
    verdicts = entry.event.verdicts
    missed = [str(verdict["gate"]) for verdict in verdicts if not verdict["passed"]]
    return f"{len(verdicts) - len(missed)} of {len(verdicts)}" + (f"; not {', '.join(missed)}" if missed else "")


def _happened(read: Mapping[type[Event], Newest[Any]]) -> list[dict[str, Any]]:
    """Retrains, rollbacks and incidents: what failed before or after it had traffic, what died, what burnt."""
    outcomes = {entry.run: entry.event.outcome for entry in read[RunSettled].entries if entry.run}
    found: list[tuple[Entry[Any], str, str]] = []
    for entry in read[RunOpened].entries:
        ended = outcomes.get(entry.run, "")
        found.append((entry, RETRAIN, f"{entry.event.reason}{f': {ended}' if ended else ''}"))
    found += [(entry, ROLLBACK, entry.event.sentence()) for entry in read[RolledBack].entries]
    for kind in (RolloutFailed, SlotDied, BudgetBurning, BudgetSpent):
        entries = [each for each in read[kind].entries if not each.body.get("rolled_back")]
        found += [(entry, INCIDENT, entry.event.sentence()) for entry in entries]
    for entry in read[GatesChecked].entries:
        if any(not each["passed"] and each.get("mode") != "warn" for each in entry.event.verdicts):
            found.append((entry, INCIDENT, entry.event.sentence()))
    return [
        {"at": entry.at, "what": what, "said": said, "run": entry.run, "event": entry.seq}
        for entry, what, said in sorted(found, key=lambda each: each[0].seq)
    ]


def _costs(context: Context, model: str) -> tuple[list[dict[str, Any]], str, str, str]:
    """(a line a month, the currency, why there are none, until when they are added up)."""
    try:
        terms = Terms.of(context.params)
    except SettingsError as error:
        return [], "", str(error), ""
    bill = bill_so_far(context.ledger, terms, settings_digest(context), model=model, by_month=True)
    known: dict[str, str] = {}
    for line in bill.lines:
        known[line.month] = "guess" if "guess" in (line.known, known.get(line.month)) else line.known
    months = bill.by(lambda line: line.month)
    rows = [
        {
            "month": month,
            "cost": as_float(amount),
            "currency": bill.currency,
            "known": known[month],
            **idle_of(bill.lines, bill.idle, month),
        }
        for month, amount in months.items()
    ]
    return rows, bill.currency, "", bill.until
