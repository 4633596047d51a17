"""The chart of a model: versions, drift, live quality, what happened, and costs, one below the other on one time axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.pages import charts
from pipeline.pages.model_history import INCIDENT, RETRAIN, ROLLBACK, History, Live
from pipeline.settings.models import time_of

# From the top to the bottom: each part's own y axis, as shares of the height.
PLACES = {"y": (0.79, 0.97), "y2": (0.57, 0.73), "y3": (0.35, 0.51), "y4": (0.18, 0.29), "y5": (0.0, 0.12)}
VERDICTS = {
    "no drift": ("var(--c3)", "circle"),
    "drift": ("var(--c2)", "diamond"),
    "skew": ("var(--c4)", "square"),
    "no verdict": ("var(--c5)", "x-thin-open"),
}
MARKS = {
    RETRAIN: ("var(--c1)", "triangle-up"),
    ROLLBACK: ("var(--c2)", "triangle-left"),
    INCIDENT: ("var(--c4)", "x"),
}
MARGIN = 0.02
# Of an axis, above its highest value: a line there would run through the title.
HEADROOM = 0.1


def figure(past: History, now: datetime) -> dict[str, Any]:
    """The figure up to `now`."""
    metric = next((each["metric"] for each in reversed(past.looks) if each["live_quality"] is not None), "")
    data = [
        *_versions(past.live, now),
        *_drift(past.looks),
        *_quality([each for each in past.looks if each["metric"] == metric and each["live_quality"] is not None]),
        *_happened(past.happened),
        *_costs(past.costs, past.currency),
    ]
    titles = {
        "y": "Version that is live",
        "y2": "Drift: the largest distance, as a multiple of its limit",
        "y3": f"Live quality: {metric}" if metric else "Live quality: no labels yet",
        "y4": "What happened",
        "y5": f"Cost a month, {past.currency}" if past.currency else "Cost a month: not known",
    }
    lanes = list(MARKS)
    layout: dict[str, Any] = {
        "xaxis": {"type": "date", "range": _range(past, now), "anchor": "y5"},
        **{_axis(name): {"domain": place, "anchor": "x", "nticks": 4} for name, place in PLACES.items()},
        "showlegend": False,
        "barmode": "overlay",
        "hovermode": "closest",
        "margin": {"t": 24, "r": 10, "b": 30, "l": 60},
        "annotations": [
            {"text": charts.text(title), "xref": "paper", "yref": "paper", "x": 0, "y": PLACES[name][1], "showarrow": False}
            | {"xanchor": "left", "yanchor": "bottom", "align": "left"}
            for name, title in titles.items()
        ],
        "shapes": [_line("y2", 1.0)],
    }  # fmt: skip
    numbered = all(span.version.isdigit() for span in past.live)
    layout["yaxis"] |= {"tickformat": "d"} if numbered else {"type": "category"}
    if numbered and past.live:
        numbers = [int(span.version) for span in past.live]
        layout["yaxis"] |= {"range": [min(numbers) - 1, max(numbers) + 1 + (max(numbers) - min(numbers)) * HEADROOM]}
    if numbered and len({span.version for span in past.live}) < 5:
        layout["yaxis"] |= {"dtick": 1}
    highest = max([1.0, *(each["times_limit"] or 0.0 for each in past.looks)])
    layout["yaxis2"] |= {"range": [0, highest * (1 + HEADROOM)]}
    if not metric:
        layout["yaxis3"] |= {"showticklabels": False}
    layout["yaxis4"] |= {"type": "category", "categoryarray": lanes[::-1], "range": [-0.6, len(lanes) - 0.4]}
    layout["yaxis4"] |= {"tickvals": lanes}
    layout["yaxis5"] |= {"rangemode": "tozero"}
    return charts.figure(data, layout)


def _axis(name: str) -> str:
    return name.replace("y", "yaxis", 1)


def _line(axis: str, value: float) -> dict[str, Any]:
    line = {"dash": "dash", "width": 1, "color": "var(--c2)"}
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": axis, "y0": value, "y1": value, "line": line}


def _range(past: History, now: datetime) -> list[str]:
    """From the first thing that is shown to `now`, with a margin; months are wider than what happened in them."""
    times = [time_of(each["at"]) for each in (*past.looks, *past.happened)]
    times += [time_of(span.start) for span in past.live]
    first = min(times, default=now - timedelta(days=1))
    last = max([now, *times])
    room = max((last - first) * MARGIN, timedelta(seconds=30))
    return [(first - room).isoformat(), (last + room).isoformat()]


def _versions(live: Sequence[Live], now: datetime) -> list[dict[str, Any]]:
    spans = [(span, time_of(span.start), time_of(span.end) if span.end else now) for span in live]
    colours = ["var(--c2)" if span.left else "var(--c1)" for span in live]
    return [
        {
            "type": "bar",
            "orientation": "h",
            "base": [start.isoformat() for _, start, _ in spans],
            "x": [max((end - start).total_seconds(), 0.0) * 1000 for _, start, end in spans],
            "y": [int(span.version) if span.version.isdigit() else span.version for span, _, _ in spans],
            "width": 0.8,
            # With an outline, so that a version of a minute is seen among years.
            "marker": {"color": colours, "line": {"color": colours, "width": 1}},
            "hovertext": [
                f"version {charts.text(span.version)}<br>{start:%d %b %Y %H:%M} to {f'{end:%d %b %Y %H:%M}' if span.end else 'now'}"
                + ("<br>rolled back" if span.left else "")
                for span, start, end in spans
            ],
            "hoverinfo": "text",
        }
    ]


def _drift(looks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found = [_points("y2", looks, "times_limit") | {"mode": "lines", "line": {"color": "var(--c5)", "width": 1}}]
    found[0] |= {"hoverinfo": "skip", "connectgaps": False}
    verdicts = list(dict.fromkeys([*VERDICTS, *(each["verdict"] for each in looks)]))
    for verdict in verdicts:
        colour, symbol = VERDICTS.get(verdict, VERDICTS["no verdict"])
        of = [{**each, "shown": each["times_limit"] or 0.0} for each in looks if each["verdict"] == verdict]
        if of:
            texts = [_look_text(each) for each in of]
            found.append(_points("y2", of, "shown") | _markers(colour, symbol) | {"hovertext": texts})
    return found


def _look_text(each: Mapping[str, Any]) -> str:
    lines = [f"{each['verdict']}, version {each['version']}, as of {str(each['as_of'])[:16]}"]
    if each["times_limit"] is not None:
        lines.append(f"{each['feature']}: {each['times_limit']:.2f} times its limit")
    lines += [f"moved: {each['moved']}"] if each["moved"] else []
    return "<br>".join(charts.text(line) for line in lines)


def _quality(looks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    def distance(each: Mapping[str, Any], end: str, sign: int) -> float:
        return max(sign * (each[end] - each["live_quality"]), 0.0) if each[end] is not None else 0.0

    bars = {
        "type": "data",
        "symmetric": False,
        "array": [distance(each, "live_high", 1) for each in looks],
        "arrayminus": [distance(each, "live_low", -1) for each in looks],
        "color": "var(--c1)",
        "thickness": 1,
        "width": 0,
    }
    texts = [
        charts.text(f"live {each['live_quality']:.4g}, by {each['labelled'] or 0:,} labels")
        + (f"<br>{each['live_low']:.4g} to {each['live_high']:.4g}" if None not in (each["live_low"], each["live_high"]) else "")
        + (f"<br>held out {each['held_out']:.4g}" if each["held_out"] is not None else "")
        for each in looks
    ]  # fmt: skip
    held = _points("y3", looks, "held_out") | {"mode": "lines", "hoverinfo": "skip"}
    held["line"] = {"color": "var(--c5)", "width": 1, "dash": "dot", "shape": "hv"}
    live = _points("y3", looks, "live_quality") | _markers("var(--c1)", "circle")
    return [held, live | {"mode": "lines+markers", "line": {"color": "var(--c1)", "width": 1}, "error_y": bars, "hovertext": texts}]  # fmt: skip


def _happened(happened: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for what, (colour, symbol) in MARKS.items():
        of = [each for each in happened if each["what"] == what]
        texts = [f"{what}, {each['at'][:16]}<br>{charts.text(_short(each['said']))}" for each in of]
        found.append(_points("y4", of, "what") | _markers(colour, symbol, 10) | {"hovertext": texts})
    return found


def _short(said: str) -> str:
    return said if len(said) <= 120 else f"{said[:119]}…"


def _costs(costs: Sequence[Mapping[str, Any]], currency: str) -> list[dict[str, Any]]:
    months = [datetime.fromisoformat(f"{each['month']}-01").replace(tzinfo=UTC) for each in costs]
    ends = [(month + timedelta(days=32)).replace(day=1) for month in months]
    return [
        {
            "type": "bar",
            "yaxis": "y5",
            "x": [month.isoformat() for month in months],
            "offset": 0,
            "width": [(end - month).total_seconds() * 970 for month, end in zip(months, ends, strict=True)],
            "y": [each["cost"] for each in costs],
            "marker": {"color": "var(--c3)"},
            "hovertext": [
                f"{each['month']}: {each['cost']:,.2f} {charts.text(currency)} ({each['known']})" for each in costs
            ],
            "hoverinfo": "text",
        }
    ]


def _points(axis: str, lines: Sequence[Mapping[str, Any]], value: str) -> dict[str, Any]:
    places = {"x": [each["at"] for each in lines], "y": [each[value] for each in lines]}
    return {"type": "scatter", "yaxis": axis, **places, "hoverinfo": "text"}


def _markers(colour: str, symbol: str, size: int = 8) -> dict[str, Any]:
    return {"mode": "markers", "marker": {"color": colour, "symbol": symbol, "size": size, "line": {"color": colour, "width": 2 if "thin" in symbol else 0}}}  # fmt: skip
