"""A backtest as text for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.cli.plain_table import PlainTable
from pipeline.cli.tables import WIDTH

if TYPE_CHECKING:
    from pipeline.runs.backtest.run import Backtest


def backtest(found: Backtest) -> str:
    """The policies, the cheapest first, then what is recommended and what it rests on."""
    of, history, comparison = found.worth, found.matrix.history, found.comparison
    rows = PlainTable(
        "policy", f">cost, {of.currency}", f">{of.loss}", ">retrains", ">saved against never", ">against tuned schedule"
    )
    for line in found.lines:
        saved = [
            f"{s['value']:,.0f} ({s['low']:,.0f} to {s['high']:,.0f})"
            for s in (line["saved_against_never"], line["saved_against_tuned_schedule"])
        ]
        rows.add_row(line["policy"], f"{line['total']:,.0f}", f"{line['loss']:.5g}", str(line["retrains"]), *saved)
    figures = {"a unit of loss on a row": of.value, "rows a day": of.rows_a_day}
    parts = {"machine": of.machine, "people": of.people, "risk": of.risk}
    notes = [
        f"{history.windows} windows of {found.span.days:g} days from {history.starts[0]}; compared from "
        f"{history.starts[comparison.first]} on; labels {history.delay} windows late; intervals cover 90 %",
        f"a retrain costs {of.retrain:,.2f} {of.currency}: "
        + ", ".join(f"{name} {f.value:,.2f} ({f.known})" for name, f in parts.items()),
        *(f"{name}: {f.value:,.4g} ({f.known}: {f.how})" for name, f in figures.items()),
        *_goes_back(found),
        *(f"no version as of {day}: {why}" for day, why in found.matrix.untrained.items()),
        *(f"the window of {day} has no labelled rows" for day in found.matrix.left_out),
    ]
    said = [f"page: {found.report}", f"recommended: {found.recommendation}"]
    if found.windows is not None:
        said.append(f"recommended: {found.windows.recommendation}")
    return "\n".join([rows.text(WIDTH), *_windows(found), *notes, *said])


def _goes_back(found: Backtest) -> list[str]:
    """That a policy takes older versions again, which the oracle does not."""
    back = [f"{line['policy']} {line['went_back']} times" for line in found.lines if line["went_back"]]
    if not back:
        return []
    return [f"goes back to a past version: {', '.join(back)}; the oracle never does, so such a policy can cost less"]


def _windows(found: Backtest) -> list[str]:
    """The lengths of the training window that were compared, as a table of its own."""
    if found.windows is None:
        return []
    of = found.worth
    lost = PlainTable(
        "learnt from days", f">{of.loss} under {found.windows.policy}", f">saved against own, {of.currency}"
    )
    for window in found.windows.each:
        money = found.money(window.saved) if window.saved else None
        saved = f"{money['value']:,.0f} ({money['low']:,.0f} to {money['high']:,.0f})" if money else "-"
        shown = "-" if window.loss is None else f"{window.loss:.5g}"
        lost.add_row(f"{window.name}, its own" if window.own else window.name, shown, window.reason or saved)
    return [lost.text(WIDTH)]
