"""The block's settings, from the roles of the columns and the windows: nothing that is a default, so that a block stays short."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from shlex import quote
from typing import Any

import numpy as np

from pipeline.data.sql import quoted
from pipeline.errors import SettingsError
from pipeline.init import bad_rows, counts
from pipeline.init.facts import Facts
from pipeline.init.looks import SLIPS
from pipeline.init.request import Assumption, Draft, LeftOut, Request
from pipeline.init.roles import Roles
from pipeline.init.table import Origin
from pipeline.init.windows import Windows
from pipeline.settings.policy import Policy
from pipeline.settings.source import Csv
from pipeline.settings.training import Training
from pipeline.training import tasks
from pipeline.training.tasks import METRICS, TASKS

# roc_auc of a guess; a version must be better than it by the margin.
GUESSED_AUC, AUC_MARGIN = 0.5, 0.02
# A share of the naive guess's error.
ERROR_MARGIN = 0.02
# What a model gets of a time beside its days, and of a text beside its length.
PARTS = ("hour", "weekday", "month")
WORD_GROUPS, MORE_GROUPS = 64, 512
# A window that losses are compared by has so many rows, where one of these lengths has them.
COMPARED_ROWS, COMPARED_DAYS = 100, (7, 14, 28, 56, 112)


def make(
    request: Request,
    origin: Origin,
    roles: Roles,
    windows: Windows,
    target: np.ndarray,
    weight: np.ndarray | None,
    is_held_out: np.ndarray,
    leaks: list[LeftOut],
    columns: Mapping[str, Facts],
) -> Draft:
    """The draft; `target`, `weight` and `is_held_out` have the shape (labelled rows,)."""
    said = [*roles.assumptions, *windows.said]
    bad_rows.say_without_time(roles.time, said)
    leaking = {leak.column for leak in leaks}
    training: dict[str, Any] = {"task": roles.task, "target": roles.target.name}
    if roles.positive is not None:
        training["positive"] = roles.positive
    for kind, features in roles.features.items():
        if names := [name for name in features if name not in leaking]:
            training[kind] = names
    if "datetime" in training:
        training["calendar"] = _calendar(training["datetime"], roles, columns, said)
    if "text" in training:
        training["words"] = WORD_GROUPS
        said.append(
            Assumption(
                "words",
                f"{WORD_GROUPS} groups",
                f"of what is said in {', '.join(training['text'])}; 0 is its length alone",
            )
        )
    if roles.weight is not None:
        training["weight"] = roles.weight.name
    if roles.counts and counts.by_poisson(request):
        training["options"] = dict(counts.OPTIONS)
    metric = _metric(request, roles, said)
    settings = {
        "as_of": f"{windows.as_of:%Y-%m-%dT%H:%M:%SZ}",
        "schedule": {"cron": windows.cron, "start": f"{windows.as_of:%Y-%m-%dT%H:%M:%SZ}"},
        "source": _source(request, origin, roles, windows),
        "training": training,
        "evaluation": {"holdout_days": windows.holdout_days, "metric": metric},
        "gates": _gates(metric, training, target, weight, is_held_out, said)
        | {"contract": _contract(len(target), training, roles, columns, said)},
        "monitor": {"cron": "0 6 * * *", "window_days": windows.monitor_days},
    }
    if policy := compared_by(len(target) / windows.window_days, said):
        settings["policy"] = policy
    return Draft(request.model, settings, said, [*roles.left_out, *leaks])


def compared_by(rows_a_day: float, said: list[Assumption]) -> dict[str, Any]:
    """The length of the windows that losses are compared by, where a week has too few rows: a mean of few says next to nothing."""
    usual = Policy()
    days = next((d for d in COMPARED_DAYS if rows_a_day * d >= COMPARED_ROWS), COMPARED_DAYS[-1])
    how = f"when it pays, by windows of {days:g} days; until a backtest says more, a guess: after {usual.due_after_days:g} days"
    said.append(
        Assumption("retrain", how, "policy.rule: value, the default; a run on schedule asks first, one by hand never")
    )
    return {} if days == usual.window_days else {"window_days": float(days)}


def _parts(column: Facts) -> list[str]:
    """The parts that differ from row to row: a date has no hour. Months come, however short the table is."""
    same = {"hour": column.hours <= 1, "weekday": column.weekdays <= 1}
    return [part for part in PARTS if not same.get(part)]


def _calendar(
    datetimes: Sequence[str], roles: Roles, columns: Mapping[str, Facts], said: list[Assumption]
) -> list[str] | dict[str, list[str]]:
    """The parts of each time: of one that goes on with the event time its age alone, since its months do not come again."""
    parts = {name: [] if roles.ages.get(name) else _parts(columns[name]) for name in datetimes}
    alike: dict[str, list[str]] = {}
    for name, some in parts.items():
        alike.setdefault(", ".join(some), []).append(name)
    for said_parts, names in alike.items():
        if said_parts:
            said.append(Assumption("calendar", said_parts, f"beside the days of {', '.join(names)}"))
    for name, goes_on in roles.ages.items():
        parts[name].append("age")
        drift = "; drift leaves it out, because it goes on with it" if goes_on else ""
        why = f"it lies before {roles.time.name} in all but {SLIPS:.1%} of the rows: the days between are a feature{drift}"
        said.append(Assumption("age", name, why, f"--leave-out {quote(name)}"))
    first, *others = parts.values()
    return first if all(other == first for other in others) else parts


def _contract(
    rows: int, training: dict[str, Any], roles: Roles, columns: Mapping[str, Facts], said: list[Assumption]
) -> dict[str, Any]:
    contract = {"min_rows": max(1, rows // 10), "max_bad_share": bad_rows.share(training, roles, columns, said)}
    always_new = {name: {"calendar": True} for name, goes_on in roles.ages.items() if goes_on}
    return contract | ({"columns": always_new} if always_new else {})


def _source(request: Request, origin: Origin, roles: Roles, windows: Windows) -> dict[str, Any]:
    source: dict[str, Any] = {}
    if origin.query is not None:
        before = f"{origin.before};\n" if origin.before else ""
        source["query"] = f"{before}SELECT * FROM (\n{origin.query}\n) WHERE {_in_window(roles)}"
    else:
        source["files"] = list(origin.files)
    form = {key: value for key, value in origin.csv.model_dump().items() if value != getattr(Csv(), key)}
    if form:
        source["csv"] = form
    if roles.key is not None:
        source["key"] = roles.key.name
    source["event_time"] = roles.time.name
    if roles.label_time is not None:
        source["label_time"] = roles.label_time.name
    if request.timezone != "UTC":
        source["timezone"] = request.timezone
    if roles.epoch is not None:
        source["epoch"] = roles.epoch
    return source | {"window_days": windows.window_days}


def _in_window(roles: Roles) -> str:
    """SQL that is true for a row between $start and $end, as its time is written. A text that DuckDB does not read as a time stays: the
    snapshot reads it by our rule, and counts it when it is none."""
    time, low, high = quoted(roles.time.name), "$start", "$end"
    if roles.epoch is not None:
        function = {"s": "epoch", "ms": "epoch_ms", "us": "epoch_us", "ns": "epoch_ns"}[roles.epoch]
        low, high = f"{function}($start)", f"{function}($end)"
    if roles.time.type == "VARCHAR":
        time = f"TRY_CAST({time} AS {'TIMESTAMPTZ' if roles.epoch is None else 'DOUBLE'})"
        return f"({time} >= {low} AND {time} < {high}) IS NOT FALSE"
    if roles.time.type not in ("DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE") and roles.epoch is None:
        time = f"{time}::TIMESTAMPTZ"
    return f"{time} >= {low} AND {time} < {high}"


def _metric(request: Request, roles: Roles, said: list[Assumption]) -> str:
    task = TASKS[roles.task]
    if request.metric is not None:
        known = [metric.name for metric in task.metrics]
        if request.metric not in known:
            raise SettingsError(
                f"--metric {request.metric}", f"is no metric of a {roles.task} task", f"use one of {', '.join(known)}"
            )
        return request.metric
    if roles.counts:
        said.append(Assumption("metric", counts.METRIC, counts.METRIC_WHY, "--metric"))
        return counts.METRIC
    said.append(Assumption("metric", task.usual_metric, task.usual_metric_why, "--metric"))
    return task.usual_metric


def _gates(
    metric: str,
    training: dict[str, Any],
    target: np.ndarray,
    weight: np.ndarray | None,
    is_held_out: np.ndarray,
    said: list[Assumption],
) -> dict[str, Any]:
    limit, margin = GUESSED_AUC, AUC_MARGIN
    guess = "a guess has 0.5"
    if metric != "roc_auc":
        limit, margin = (
            _naive(metric, training, target, weight, is_held_out),
            ERROR_MARGIN if METRICS[metric].in_targets_unit else 0.0,
        )
        guess = "as good as guessing from the rows before, without a feature"
    said.append(
        Assumption("gate", f"{metric} {limit:.4g}", f"{guess}, and a margin of {margin:g} better than guessing")
    )
    return {"metric_limit": float(f"{limit:.4g}"), "baseline_margin": margin}


def _naive(
    metric: str, training: dict[str, Any], target: np.ndarray, weight: np.ndarray | None, is_held_out: np.ndarray
) -> float:
    task, held = tasks.of(Training(**training)), target[is_held_out]
    learnt, judged = (None, None) if weight is None else (weight[~is_held_out], weight[is_held_out])
    score = task.score(metric, held, task.guess(target[~is_held_out], len(held), weight=learnt), judged)
    # Rounded to what is written, never to a limit that the guess itself misses.
    step = 10.0 ** (np.floor(np.log10(abs(score))) - 3) if score else 0.0
    return float(score - step if METRICS[metric].higher_is_better else score + step)
