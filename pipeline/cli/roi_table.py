"""`roi` as text for a terminal: each row says how it is known."""

from __future__ import annotations

from typing import Any

from pipeline.cli.plain_table import PlainTable

WIDTH = 110
# The models with the largest bills.
ROWS = 12


def roi(told: dict[str, Any]) -> str:
    """`told` is what `--json` says."""
    hours = f"{told['engineer_hours_saved_low']:.1f} to {told['engineer_hours_saved_high']:.1f}"
    net = f"{told['net_low']:,.2f} to {told['net_high']:,.2f}"
    lines = [
        f"measured: {told['deployments']} deployments, {told['machine_cost']:.4f} {told['currency']} of machine time; "
        f"the whole bill is {told['bill']:,.2f}",
        f"claimed:  {hours} engineer hours saved, {net} {told['currency']} net of machine time",
        f"          against the manual baseline of {told['baseline_source']}: a claim of its authors, not a measurement",
    ]
    parts = ["\n".join(lines), _savings(told), _break_even(told), *filter(None, [told["not_converted"]])]
    parts += [_by_model(told)] if told["by_model"] else []
    return "\n\n".join([*parts, _last_lines(told), _example(told["source_example"])])


def _savings(told: dict[str, Any]) -> str:
    rows = PlainTable("saved so far by", ">low", ">high", "known", "how")
    for each in told["savings"]:
        rows.add_row(each["channel"], _money(each["low"]), _money(each["high"]), each["known"], each["how"])
    rows.add_row("all", _money(told["saved_low"]), _money(told["saved_high"]), "", "")
    return rows.text(WIDTH)


def _break_even(told: dict[str, Any]) -> str:
    rows = PlainTable("investment and break-even", ">low", ">high", "known")
    for name, part in told["investment"]["parts"].items():
        rows.add_row(name.replace("_", " "), _money(part["low"]), _money(part["high"]), part["known"])
    rows.add_row("all", _money(told["investment"]["low"]), _money(told["investment"]["high"]), "")
    found = told["break_even"]
    ends = ", ".join(
        f"{name} {_months(found[f'{name}_months'], found[f'{name}_month'])}" for name in ("low", "mid", "high")
    )
    return (
        f"{rows.text(WIDTH)}\nbreak-even of {found['models']} model{'s' if found['models'] != 1 else ''} ({found['known']}), "
        f"with a bill of {_money(told['bill_a_month'])} a month: {ends}"
    )


def _by_model(told: dict[str, Any]) -> str:
    rows = PlainTable("model", ">deployments", ">bill", ">a month", ">break-even low", ">mid", ">high")
    dearest = sorted(told["by_model"], key=lambda each: -each["bill"])
    for each in dearest[:ROWS]:
        months = (_months(each["break_even"][f"{name}_months"], None) for name in ("low", "mid", "high"))
        rows.add_row(
            each["model"], str(each["deployments"]), _money(each["bill"]), _money(each["bill_a_month"]), *months
        )
    more = len(dearest) - ROWS
    return rows.text(WIDTH) + (f"\nand {more} models more" if more > 0 else "")


def _last_lines(told: dict[str, Any]) -> str:
    one, level = told["marginal_model"], told["maturity"]
    lines = [f"maturity: level {level['level']}, {level['name']} (measured: {level['why']})"]
    if one["a_month_median"] is not None:
        lines.append(
            f"one more model costs {_money(one['a_month_median'])} {told['currency']} a month ({one['known']}): the median of "
            f"{_money(one['a_month_low'])} to {_money(one['a_month_high'])}, without what runs for all"
        )
    return "\n".join(lines)


def _example(example: dict[str, Any]) -> str:
    rows = PlainTable("the study's own example", ">printed", ">computed from its parts", "comes out")
    for each in example["break_even"]:
        out = {(True, True): "yes", (True, False): "the low end"}[each["low_comes_out"], each["high_comes_out"]]
        rows.add_row(
            f"{each['models']} models break even, months",
            f"{each['printed_low']} to {each['printed_high']}",
            f"{each['computed_low']:.1f} to {each['computed_high']:.1f}",
            out,
        )
    low, high = example["saved_a_model_and_year"]
    return (
        f"{rows.text(WIDTH)}\nits four channels add up to {low:,.0f} to {high:,.0f} a model and year, as printed; it prints no formula, "
        f"and one does not come out: {example['does_not_come_out']}"
    )


def _money(amount: float) -> str:
    return f"{amount:,.2f}"


def _months(months: float | None, month: str | None) -> str:
    if months is None:
        return "never"
    return f"{months:,.1f} months" + (f" ({month})" if month else "")
