"""The page of what automation earned, of all models or of one: break-even, savings by channel, investment, one more model, maturity.

Every number says how it is known and leads to the events that it is made of, or to the source that claims it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.accounts.closed_months import bill_so_far
from pipeline.accounts.lines import UNITS, total
from pipeline.accounts.money import as_float
from pipeline.accounts.people import MINUTES
from pipeline.accounts.roi import MACHINE, Roi, roi
from pipeline.accounts.statement import Terms
from pipeline.context import Context
from pipeline.html.templates import rendered
from pipeline.ledger.events import DataLanded, StageKept, StepEnded, VersionRegistered
from pipeline.ledger.prune_events import Pruned
from pipeline.ledger.rollout_events import SlotStarted
from pipeline.ledger.usage_events import BytesMoved, BytesStored
from pipeline.pages import charts
from pipeline.pages.downloads import Table
from pipeline.pages.kept_settings import with_kept_settings
from pipeline.pages.model_history import must_be_known, settings_digest

COLUMNS = ("group", "name", "low", "mid", "high", "unit", "known", "how", "events", "more_events")
ENDS = ("low", "mid", "high")
COLOURS = {"low": "var(--c3)", "mid": "var(--c1)", "high": "var(--c2)"}
# Months that the curve shows at least and at most, and that it goes on after break-even.
LEAST, MOST, AFTER = 12, 120, 1.25
# The kinds of events that the parts of a bill are counted from, as the address of the page of events has them.
MADE_OF: Mapping[str, str] = {
    **dict.fromkeys(UNITS, StepEnded.KIND),
    "storage": ",".join((DataLanded.KIND, StageKept.KIND, Pruned.KIND)),
    "other storage": BytesStored.KIND,
    "transfer": ",".join((DataLanded.KIND, StageKept.KIND, VersionRegistered.KIND, BytesMoved.KIND)),
    "live slot": SlotStarted.KIND,
    "second slot": SlotStarted.KIND,
    "people": ",".join(MINUTES),
}


def roi_page(context: Context, model: str = "") -> str:
    """The page as HTML, for '' of all models. Raises SettingsError for an unknown model, and where prices or baseline are broken."""
    return rendered(Path(__file__).with_name("roi.html"), facts(_earned(context, model)))


def table(context: Context, model: str = "") -> Table:
    """All the page's numbers. Raises SettingsError as `roi_page` does."""
    earned = _earned(context, model)
    return Table(COLUMNS, lines(earned, earned.as_dict()))


def _earned(context: Context, model: str) -> Roi:
    context = with_kept_settings(context)
    if model:
        must_be_known(context, model)
    terms, baseline = Terms.of(context.params), context.params.baseline
    with context.ledger.reading():
        bill = bill_so_far(context.ledger, terms, settings_digest(context), model=model)
        return roi(context.ledger, terms, baseline, model=model, bill=bill)


def facts(earned: Roi) -> dict[str, Any]:
    """The template's values."""
    told = earned.as_dict()
    groups: dict[str, list[dict[str, Any]]] = {}
    for line in lines(earned, told):
        groups.setdefault(line["group"], []).append(line)
    return {
        "model": earned.model,
        "until": earned.bill.until,
        "groups": groups,
        "currency": told["currency"],
        "break_even": told["break_even"],
        "by_model": sorted(told["by_model"], key=lambda each: -each["bill"]),
        "maturity": told["maturity"],
        "source": told["baseline_source"],
        "example": told["source_example"],
        "curve": curve(earned),
        "curve_said": _curve_said(earned),
        "channels": channels(earned),
        "plotly": charts.version(),
        "empty": not told["deployments"],
        "not_converted": told["not_converted"],
        "saved_any": any(each.low or each.high for each in earned.savings),
    }


def lines(earned: Roi, told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every number of the page; `events` are the newest numbers of its events, and `more_events` how many more it is made of. `told` is
    `earned` as a dict."""
    money, parts = told["currency"], _parts(earned)
    known = _weakest(parts.values())
    machine = _weakest(each for part, each in parts.items() if part in MACHINE)
    live = [each.seq for each in earned.past.live]
    found = [
        _line("so far", "deployments", told["deployments"], "deployments", "measured", "rollouts that moved all traffic", live),
        _line("so far", "machine time", told["machine_cost"], money, machine, "steps, failed attempts and killed steps", kind=StepEnded.KIND),
        _line("so far", "bill", told["bill"], money, known, "all parts below", kind=StepEnded.KIND),
        _line("so far", "bill a month", told["bill_a_month"], money, known, f"the bill over {earned.months:.1f} months, of which less than one counts as one", kind=StepEnded.KIND),
        _line("so far", "models", told["models"], "models", "measured", "that have a deployment", live),
        _line("so far", "model-years", told["model_years"], "years", "measured", "while something of each was live, added up", live),
    ]  # fmt: skip
    found += [
        _line("bill by part", part, each.amount, money, each.known, f"{each.quantity:,.2f} {UNITS[part]}", kind=MADE_OF[part])
        for part, each in parts.items()
    ]  # fmt: skip
    for each in told["savings"]:
        span = (each["low"], each["high"])
        more = each["count"] - len(each["events"])
        found.append(
            _line("saved so far", each["channel"], span, money, each["known"], each["how"], each["events"], more=more)
        )
    claims = _claimed({each["known"] for each in told["savings"]})
    found.append(
        _line("saved so far", "all channels", (told["saved_low"], told["saved_high"]), money, claims, "the sum of the channels", live)
    )  # fmt: skip
    hours = (told["engineer_hours_saved_low"], told["engineer_hours_saved_high"])
    manual = earned.baseline.known("manual_engineer_hours_per_deployment")
    found.append(
        _line("saved so far", "engineer hours", hours, "hours", manual, "by hand less ours, over the deployments", live)
    )
    return found + _ahead(earned, told)


def _ahead(earned: Roi, told: Mapping[str, Any]) -> list[dict[str, Any]]:
    money, invested, even = told["currency"], told["investment"], told["break_even"]
    live = [each.seq for each in earned.past.live]
    found = [
        _line("investment", name.removeprefix("investment_"), (part["low"], part["high"]), money, part["known"], "baseline." + name)
        for name, part in invested["parts"].items()
    ]  # fmt: skip
    known = _claimed({part["known"] for part in invested["parts"].values()})
    found.append(_line("investment", "all", (invested["low"], invested["high"]), money, known, "the sum of the parts"))
    how = f"12 x investment / ({even['models']} x savings a model and year - the bill of a year)"
    months = {end: even[f"{end}_months"] for end in ENDS}
    found.append({**_line("break-even", "months", None, "months", even["known"], how, kind=StepEnded.KIND), **months})
    one = told["marginal_model"]
    ends = {end: one[f"a_month_{name}"] for end, name in zip(ENDS, ("low", "median", "high"), strict=True)}
    how = "what the models that are there cost in a month, without what runs for all"
    found.append({**_line("one more model", "a month", None, money, one["known"], how, kind=StepEnded.KIND), **ends})
    level = told["maturity"]
    how = f"{level['name']}: {level['why']}"
    found.append(_line("maturity", "level", level["level"], "of 3", level["known"], how, level["events"] or live))
    return found


def _line(
    group: str, name: str, value: Any, unit: str, known: str, how: str, events: Any = (), *, kind: str = "", more: int = 0
) -> dict[str, Any]:  # fmt: skip
    """`value` is one number or (low, high). With `kind` it is counted from all events of that kind."""
    low, high = value if isinstance(value, tuple) else (None, None)
    shown = list(events)[-20:]
    return {
        "group": group,
        "name": name,
        "low": low,
        "mid": None if isinstance(value, tuple) else value,
        "high": high,
        "unit": unit,
        "known": known,
        "how": how,
        "events": shown,
        "more_events": more or len(events) - len(shown),
        "kind": kind,
    }


class Part(NamedTuple):
    """A part of the bill: money, its quantity, and how the weakest of its lines is known."""

    amount: float
    quantity: float
    known: str


def _parts(earned: Roi) -> dict[str, Part]:
    """The parts of the bill, from one look at its lines: of hundreds of models and years there are many."""
    found = {}
    for part, of in earned.bill.by_part().items():
        known = "guess" if any(line.known == "guess" for line in of) else of[0].known
        found[part] = Part(as_float(total(of)), sum(line.quantity for line in of), known)
    return found


def _weakest(parts: Iterable[Part]) -> str:
    return "guess" if any(part.known == "guess" for part in parts) else "measured"


def _claimed(known: set[str]) -> str:
    return "claimed" if "claimed" in known else "yours"


def curve(earned: Roi) -> dict[str, Any]:
    """Money by months since the ledger's first: minus the investment, plus what is saved, less the bill."""
    models, even = max(earned.models, 1), earned.break_even(max(earned.models, 1), earned.bill_a_month)
    known = [even[f"{end}_months"] for end in ENDS if even[f"{end}_months"] is not None]
    # An end that breaks even in a century stretches the other ones to a line.
    reached = [months for months in known if months <= MOST]
    until = max([LEAST, earned.months * 1.05, *(months * AFTER for months in reached)])
    data: list[dict[str, Any]] = []
    for end, (invested, saved) in earned.pairs().items():
        net = models * saved / 12 - earned.bill_a_month
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": f"{end}: {_months(even[f'{end}_months'])}",
                "x": [0, until],
                "y": [-invested, -invested + net * until],
                "line": {
                    "color": COLOURS[end],
                    "width": 2,
                    "dash": {"low": "dot", "mid": "solid", "high": "dash"}[end],
                },
            }
        )
        if (months := even[f"{end}_months"]) is not None and months <= until:
            data.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "showlegend": False,
                    "x": [months],
                    "y": [0],
                    "marker": {"color": COLOURS[end], "size": 10},
                    "hovertext": f"{end}: {_months(months)}, {even[f'{end}_month'] or ''}",
                    "hoverinfo": "text",
                }
            )
    today = {"type": "line", "x0": earned.months, "x1": earned.months, "yref": "paper", "y0": 0, "y1": 1}
    layout = {
        "xaxis": {"title": {"text": "months since the ledger begins"}, "range": [0, until]},
        "yaxis": {"title": {"text": charts.text(earned.bill.currency)}, "zeroline": True, "tickformat": "~s"},
        "shapes": [today | {"line": {"dash": "dot", "width": 1, "color": "var(--c5)"}}],
        "annotations": [
            {
                "text": "today",
                "x": earned.months,
                "yref": "paper",
                "y": 1,
                "showarrow": False,
                "xanchor": "right" if earned.months * 2 > until else "left",
            }
        ],
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        "margin": {"t": 40, "r": 10, "b": 45, "l": 70},
    }
    return charts.figure(data, layout)


def _curve_said(earned: Roi) -> str:
    even = earned.break_even(max(earned.models, 1), earned.bill_a_month)
    ends = "; ".join(f"{end} {_months(even[f'{end}_months'])}" + (f" ({even[f'{end}_month']})" if even[f"{end}_month"] else "") for end in ENDS)  # fmt: skip
    return f"Break-even of {even['models']} model{'s' if even['models'] != 1 else ''}, {even['known']}: {ends}."


def _months(months: float | None) -> str:
    return "never" if months is None else f"after {months:,.1f} months"


def channels(earned: Roi) -> dict[str, Any]:
    """What each channel saved so far: a bar from low to high."""
    saved = list(earned.savings)[::-1]
    colours = {"claimed": "var(--c5)", "yours": "var(--c3)", "measured": "var(--c1)", "guess": "var(--c2)"}
    data = {
        "type": "bar",
        "orientation": "h",
        "y": [f"{each.channel} ({each.known})" for each in saved],
        "base": [each.low for each in saved],
        "x": [each.high - each.low for each in saved],
        "marker": {"color": [colours[each.known] for each in saved]},
        "hovertext": [
            f"{each.channel}: {each.low:,.0f} to {each.high:,.0f} {charts.text(earned.bill.currency)}, {each.known}<br>{charts.text(each.how)}"
            for each in saved
        ],
        "hoverinfo": "text",
    }
    layout = {
        "xaxis": {"title": {"text": charts.text(earned.bill.currency)}, "tickformat": "~s", "rangemode": "tozero"},
        "yaxis": {},
        "showlegend": False,
    }
    return charts.figure([data], layout | {"margin": {"t": charts.TOOL_BAR, "r": 10, "b": 45, "l": 60}})
