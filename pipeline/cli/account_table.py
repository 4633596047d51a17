"""Accounts as text for a terminal: amounts in cents, whose parts add up to the total that stands below them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.accounts import published, waits
from pipeline.accounts.lines import UNITS, total
from pipeline.accounts.money import cents, in_cents, shown
from pipeline.cli import idle_table
from pipeline.cli.plain_table import PlainTable

if TYPE_CHECKING:
    from pipeline.accounts.account import Account
    from pipeline.accounts.figures import Figure
    from pipeline.accounts.lines import Line
    from pipeline.accounts.statement import Statement
    from pipeline.accounts.value import Deployment
    from pipeline.ledger.costs import RunCosts, StepCost

WIDTH = 110
# So many rows of months, models and runs; the rest in one row.
ROWS = 12


def costs(bill: Statement, runs: Sequence[RunCosts], one_run: str) -> str:
    if not bill.lines:
        return "nothing to account for yet"
    of = " ".join(filter(None, [bill.model or "all models", bill.month, f"run {one_run}" if one_run else ""]))
    parts = [f"{of}, until {bill.until[:16]}Z, in {bill.currency}", _parts(bill), *idle_table.idle(bill)]
    if not bill.model and not one_run:
        parts.append(_sums("model", bill.by(lambda line: line.model)))
    if not bill.month and not one_run:
        parts.append(_sums("month", bill.by(lambda line: line.month), newest=True))
    parts += [_steps(run) for run in runs] if one_run else [_sums("run", bill.by_run(), order=False)]
    parts.append("not measured, and in no sum: " + "; ".join(bill.not_measured))
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


def _sums(name: str, sums: Mapping[str, int], newest: bool = False, order: bool = True) -> str:
    """One row each; of more than ROWS the dearest, or the newest, and the others in one."""
    names = list(sums)
    if order and len(names) > ROWS:
        kept = names[-ROWS:] if newest else sorted(names, key=lambda each: -sums[each])[:ROWS]
        others = sum((sums[each] for each in names if each not in kept), 0)
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


def account(told: Account) -> str:
    """What a manager reads: the bill, each deployment and what it was worth, the decisions to wait, and how deployments go."""
    parts = [f"{told.bill.model}, statement of account until {told.bill.until[:16]}Z, in {told.bill.currency}"]
    parts += [_parts(told.bill), *idle_table.idle(told.bill)] if told.bill.lines else ["nothing to account for yet"]
    if told.deployments:
        parts += [
            _deployments(told.deployments),
            "\n".join(verdict(each, told.bill.currency) for each in told.deployments),
        ]
    if told.in_all > len(told.deployments):
        left = f"{told.in_all - len(told.deployments):,} earlier ones"
        parts.append(
            f"the newest {len(told.deployments):,} of {told.in_all:,} deployments; `perennial account {told.bill.model} --last 0` has the {left} too"
        )
    if told.waits:
        parts.append(waits.said(told.waits, told.bill.currency))
    parts += [_figures(told.figures), _platforms(told)]
    return "\n\n".join(parts)


def short(told: Account) -> str:
    """The bill, the deployments and what they were worth, without a sentence for each and the figures of how deployments go."""
    parts = [
        f"{told.bill.model}, until {told.bill.until[:16]}Z, in {told.bill.currency}",
        _parts(told.bill),
        *idle_table.idle(told.bill),
        _deployments(told.deployments),
    ]
    return "\n\n".join(parts)


def _deployments(found: Sequence[Deployment]) -> str:
    rows = PlainTable("version", "live since", ">cost", ">worth by labels", ">from", ">to", ">rows", "it")
    for each in found[-ROWS:]:
        gain = each.gain
        cells = (
            ("-", "-", "-", "0")
            if gain is None
            else (*map(_money, (gain.saved, gain.low, gain.high)), f"{gain.rows:,}")
        )
        rows.add_row(each.version, f"{each.at[:16]}Z", shown(cents(each.cost)), *cells, each.verdict)
    return rows.text(WIDTH)


def verdict(each: Deployment, currency: str) -> str:
    """What one deployment cost, what it is worth by the labels that came, and whether it paid, in one sentence."""
    cost = f"version {each.version}, live since {each.at[:10]}, cost {shown(cents(each.cost))} {currency}"
    if each.guessed:
        cost += f" (in it a guess: {', '.join(each.guessed)})"
    if each.gain is None:
        return f"{cost}: {each.verdict}" + (f", {each.why}" if each.why else "")
    gain, interval = each.gain, ""
    if gain.low is not None and gain.high is not None:
        interval = f" ({_money(gain.low)} to {_money(gain.high)})"
    guessed = ", with a value of a unit that is a guess" if each.value_known == "guess" else ""
    return f"{cost}; against version {each.previous} it is worth {_money(gain.saved)}{interval} on {each.why}{guessed}: {_whether(each)}"


def _whether(each: Deployment) -> str:
    return f"it {each.verdict}" if each.verdict != "open" else "whether it paid is open"


def _money(amount: float | None) -> str:
    return "-" if amount is None else f"{amount:,.2f}"


def _figures(figures: Sequence[Figure]) -> str:
    rows = PlainTable("how deployments go", ">here", "known", ">of", ">by hand", ">automated")
    for each in figures:
        by_hand, automated = (_range(pair, each.unit) for pair in each.published) if each.published else ("", "")
        name = each.name.removesuffix("_s").removesuffix("_min").removesuffix("_days").replace("_", " ")
        rows.add_row(name, _in_unit(each.value, each.unit), each.known, str(len(each.events)), by_hand, automated)
    return f"{rows.text(WIDTH)}\nby hand and automated are claims of the study; --json has how each figure is made, and its events"


def _in_unit(value: float | None, unit: str) -> str:
    """A figure as people say it: times in the unit that fits, shares in percent."""
    if value is None:
        return "-"
    if unit == "share":
        return f"{value:.0%}"
    size = {"s": 1, "minutes": 60, "days": 86_400}.get(unit)
    if size is None:
        return f"{value:,.2f}".removesuffix(".00") + (f" {unit}" if unit == "a week" else "")
    seconds = value * size
    for name, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if abs(seconds) >= length:
            return f"{seconds / length:,.1f} {name}"
    return f"{seconds:.1f} s"


def _range(pair: tuple[float, float], unit: str) -> str:
    return " to ".join(_in_unit(end, unit) for end in pair)


def _platforms(told: Account) -> str:
    rows = PlainTable(
        "platform", "known", ">deploy s", ">retrain min", ">drift latency min", ">recovery min", ">cost of a lifecycle"
    )
    for row in told.platforms:
        rows.add_row(row["platform"], row["known"], *(_money(value) for value in list(row.values())[2:]))
    return f"{rows.text(WIDTH)}\nthe four platforms are claims of the {published.PLATFORMS_SOURCE}, in USD"
