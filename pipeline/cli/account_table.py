"""Accounts as text for a terminal: amounts in cents, whose parts add up to the total that stands below them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from pipeline.accounts.lines import UNITS, total
from pipeline.accounts.money import cents, in_cents, shown
from pipeline.cli.plain_table import PlainTable

if TYPE_CHECKING:
    from pipeline.accounts.lines import Line
    from pipeline.accounts.statement import Statement
    from pipeline.ledger.costs import RunCosts, StepCost

WIDTH = 110
# So many rows of months, models and runs; the rest in one row.
ROWS = 12


def costs(bill: Statement, runs: Sequence[RunCosts], one_run: str) -> str:
    if not bill.lines:
        return "nothing to account for yet"
    of = " ".join(filter(None, [bill.model or "all models", bill.month, f"run {one_run}" if one_run else ""]))
    parts = [f"{of}, until {bill.until[:16]}Z, in {bill.currency}", _parts(bill)]
    if not bill.model and not one_run:
        parts.append(_sums("model", bill.by(lambda line: line.model)))
    if not bill.month and not one_run:
        parts.append(_sums("month", bill.by(lambda line: line.month), newest=True))
    parts += [_steps(run) for run in runs] if one_run else [_sums("run", bill.by_run(), order=False)]
    parts.append("not measured, and in no sum: " + "; ".join(bill.as_dict()["not_measured"]))
    return "\n\n".join(parts)


def _parts(bill: Statement) -> str:
    rows = PlainTable("part", ">quantity", "", f">{bill.currency}", "how it is known")
    by_part = bill.by_part()
    for (part, lines), amount in zip(by_part.items(), in_cents([total(of) for of in by_part.values()]), strict=True):
        quantity = float(sum(line.quantity for line in lines))
        rows.add_row(part, f"{quantity:,.2f}", UNITS[part], shown(amount), _how(lines))
    rows.add_row("all", "", "", shown(cents(bill.total)), "")
    return rows.text(WIDTH)


def _how(lines: Sequence[Line]) -> str:
    counted = sorted({line.counted for line in lines})
    return f"{' and '.join(counted)}, at a price that is {'a guess' if lines[0].price == 'guess' else lines[0].price}"


def _sums(name: str, sums: Mapping[str, Fraction], newest: bool = False, order: bool = True) -> str:
    """One row each; of more than ROWS the dearest, or the newest, and the others in one."""
    names = list(sums)
    if order and len(names) > ROWS:
        kept = names[-ROWS:] if newest else sorted(names, key=lambda each: -sums[each])[:ROWS]
        others = sum((sums[each] for each in names if each not in kept), Fraction(0))
        sums = {f"{len(names) - len(kept)} others": others, **{each: sums[each] for each in kept}}
    rows = PlainTable(name, ">amount")
    for key, amount in zip(sums, in_cents(list(sums.values())), strict=True):
        rows.add_row(key or f"no {name}", shown(amount))
    return rows.text(WIDTH)


def _steps(run: RunCosts) -> str:
    rows = PlainTable("step", "state", ">wall s", ">cpu s", ">peak MB", f">{run.currency}")
    for step in run.steps:
        rows.add_row(step.step, step.state, *_measures(step))
    rows.add_row("all", "", *_measures(run))
    return f"{run.run}\n{rows.text(WIDTH)}"


def _measures(costs: StepCost | RunCosts) -> list[str]:
    """The cells of wall and processor seconds, memory and money; empty for a step without an end."""
    if costs.wall_s is None or costs.cpu_s is None or costs.peak_mb is None or costs.cost is None:
        return [""] * 4
    return [f"{costs.wall_s:.1f}", f"{costs.cpu_s:.1f}", f"{costs.peak_mb:.0f}", f"{costs.cost:.5f}"]
