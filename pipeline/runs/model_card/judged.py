"""The card's parts on how the version was judged: metrics, explanation, slices and fairness, gates, approvals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.gates import report
from pipeline.gates.base import Verdict
from pipeline.ledger.events import Event
from pipeline.ledger.store import Entry
from pipeline.registry.card_records import INTERVALS, SHAP
from pipeline.runs.explanation_picture import picture
from pipeline.runs.model_card.content import SHOWN, CardTable, Section, newest, said, within
from pipeline.runs.model_card.known import APPROVALS, Known
from pipeline.training.evaluate import shown
from pipeline.training.explanation import Explanation
from pipeline.training.tasks import METRICS

COLUMNS_SHOWN = 20
# Gates whose tables say how it does on parts of the data, by the begin of their name.
PARTS = ("slice", "automatic_slices", "fairness")


def metrics(known: Known) -> Section:
    """On the held-out rows, each beside its interval and what a guess without a model scores."""
    evaluation, intervals = known.records.file("metrics.json"), known.records.file(INTERVALS)
    naive = evaluation.get("baseline") or {}
    rows = [
        [
            name + (" (the one that counts)" if name == evaluation.get("metric") else ""),
            _figure(name, value),
            within(intervals.get(name)),
            _figure(name, naive.get(name)),
        ]
        for name, value in (evaluation.get("metrics") or {}).items()
    ]
    if not rows:
        return Section("Metrics")
    table = CardTable(["metric", "value", "95 % interval", "guess without a model"], rows)
    return Section(
        "Metrics",
        [("measured on", f"{said(evaluation.get('rows'))} held-out rows")],
        [table],
        ["The intervals draw whole held-out days: rows of one day go together."] if intervals else (),
    )


def _figure(metric: str, value: Any) -> str:
    if not isinstance(value, int | float):
        return said(None)
    return shown(metric, value) if metric in METRICS else said(float(value))


def explanation(known: Known) -> Section:
    """What moves its predictions: the columns by size of effect, the largest first; empty where no explanation is
    recorded."""
    try:
        found = Explanation.read(known.records.file(SHAP))
    except (KeyError, TypeError):
        return Section("What moves its predictions")
    unit = "mean size of its effect" if found.points else "growth of the loss without it"
    rows = [[column, f"{size:.4g}"] for column, size in list(found.importance.items())[:COLUMNS_SHOWN]]
    facts = [("by", found.why)]
    if found.base is not None:
        facts.append(("mean prediction that effects start from", f"{found.base:.4g}"))
    drawn = picture(found, f"{known.model} version {known.version}: what moves its predictions")
    return Section("What moves its predictions", facts, [CardTable(["column", unit], rows)], picture=drawn)


def parts(known: Known) -> Section:
    """How it does on parts of the data, and for groups of people."""
    found = [verdict for verdict in known.verdicts if verdict.gate.startswith(PARTS)]
    return Section("Slices and fairness", tables=_tables(found), notes=[f"{v.gate}: {v.reason}." for v in found])


def gates(known: Known) -> Section:
    """Every verdict as it was given, also those that were warnings or could not be judged."""
    rows = [
        [
            verdict.gate,
            verdict.word,
            _observed(verdict.observed),
            within(verdict.interval) if verdict.interval else "",
            _observed(verdict.limit),
            verdict.reason,
        ]
        for verdict in known.verdicts
    ]
    columns = ["gate", "verdict", "observed", "95 % interval", "limit", "reason"]
    others = [verdict for verdict in known.verdicts if not verdict.gate.startswith(PARTS)]
    drawn = "".join(report.pictures(known.verdicts).values())
    return Section("Gates", tables=[CardTable(columns, rows), *_tables(others)] if rows else [], picture=drawn)


def _tables(verdicts: Sequence[Verdict]) -> list[CardTable]:
    return [
        CardTable(v.table.columns, [list(map(_cell, row)) for row in v.table.rows], f"Gate {v.gate}")
        for v in verdicts
        if v.table is not None and v.table.rows
    ]


def _cell(value: Any) -> str:
    # A slice of too few rows has no figure, which is another thing than one that nobody recorded.
    return "–" if value is None else said(value)


def _observed(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else said(value)


def _sentence(entry: Entry[Event]) -> str:
    note = getattr(entry.event, "note", "")
    return (entry.event.sentence() or said(dict(entry.body))) + (f"; {note}" if note else "")


def approvals(known: Known) -> Section:
    """What people said of the version, by the events that name it."""
    rows = [
        [entry.at, entry.kind.replace("_", " "), _sentence(entry)]
        for entry in known.events
        if entry.kind in APPROVALS and str(entry.body.get("version", "")) == known.version
    ]
    if not known.block:
        facts = []
    elif known.block.get("approval", "none") == "none":
        facts = [("required", f"no, models.{known.model}.approval was none")]
    else:
        by = ", ".join(known.block.get("approval_by") or ())
        facts = [("required", f"yes, by {by}" if by else "yes, by anybody but who asked")]
    notes = ["Nobody was asked, and nobody decided."] if facts and not rows else []
    tables = [CardTable(["at", "what", "said"], rows[-SHOWN:], newest("", len(rows)))] if rows else []
    return Section("Approvals", facts, tables, notes)
