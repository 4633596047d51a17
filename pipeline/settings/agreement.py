"""What the keys of a model's block must say together: each check looks at several keys, and says which one is wrong.

A check gets a block that may lack keys which are wrong or missing themselves, and then says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from pipeline.settings import approval, economics, gates_that_apply, model_gates, monitor_slices, training_agreement
from pipeline.settings.columns import BESIDE_FEATURES, RESERVED, named_twice, one_name
from pipeline.settings.examples import example
from pipeline.settings.gates import NAMES
from pipeline.settings.label_reach import stated
from pipeline.settings.rollout import HEADER_NAME, followed_column
from pipeline.settings.scoring import OWN_COLUMNS
from pipeline.settings.training_agreement import Fault
from pipeline.training import tasks

# The steps of a run: the stages of dvc.yaml, where a project may have more, and what dags/retrain.py has around them.
STAGES = ("snapshot", "validate", "train", "evaluate", "refit", "package")
AROUND = ("open_workspace", "check_gates", "register", "roll_out", "settle")
# Beside the training, on a server alone.
COUNTING = ("list_landed", "profile_landed")
QUEUE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
# Not in the sections themselves: what is live by a larger value goes on.
LARGEST = {
    "rollout.replay_rows": 10**9,
    "rollout.ready_timeout_s": 86_400,
    "rollout.bake_s": 31_536_000,
    "rollout.hold_s": 31_536_000,
    "rollout.wait_s": 31_536_000,
    "rollout.keep_hours": 876_000,
    "rollout.watch_days": 36_500,
    "rollout.limits.p99_ms": 3_600_000,
    "rollout.limits.min_requests": 10**9,
    "rollout.serving.memory_mb": 16_777_216,
    "rollout.serving.max_rows": 10**9,
    "rollout.serving.request_s": 86_400,
    "rollout.serving.rate_limit": 10**6,
}


def faults(model: Any, stages: Sequence[str] = STAGES, partial: bool = False) -> list[Fault]:
    """All that is wrong between the keys of the block, in a project whose dvc.yaml has `stages`; `partial` says that the block may
    lack keys."""
    found: list[Fault] = []
    for check in (*CHECKS, lambda block: _queues(block, stages)):
        try:
            found += check(model)
        except AttributeError:
            if not partial:
                raise
    return found


def validation_error(found: Iterable[Fault]) -> ValidationError:
    """The faults as pydantic tells those of single keys."""
    details = [
        InitErrorDetails(
            type=PydanticCustomError("agreement", "{what}", {"what": what}),
            loc=tuple(filter(None, key.split("."))),
            input=None,
        )
        for key, what in found
    ]
    return ValidationError.from_exception_data("Model", details)


def _schedule(model: Any) -> Iterator[Fault]:
    start, end = model.schedule.start, model.schedule.end
    if end is not None and start >= end:
        yield "schedule.end", f"must be after schedule.start; {end:%Y-%m-%d %H:%M} is not after {start:%Y-%m-%d %H:%M}"


def _queues(model: Any, stages: Sequence[str]) -> Iterator[Fault]:
    for step, queue in model.schedule.queues.items():
        if step not in (*stages, *AROUND, *COUNTING):
            yield (
                "schedule.queues",
                f"no step is called {step}; the steps are {', '.join((*stages, *AROUND, *COUNTING))}",
            )
        if not QUEUE_NAME.fullmatch(queue):
            yield f"schedule.queues.{step}", f"a queue has up to 64 letters, digits and _ . -; got {queue!r}"


def _source(model: Any) -> Iterator[Fault]:
    query = model.source.query
    if sum(given is not None for given in (query, model.source.files, model.source.hook)) != 1:
        yield "source", f"give one of query, files and hook, for example {example('models.NAME.source.query')}"
    if query is not None and not ("$start" in query and "$end" in query):
        yield "source.query", "the query must use $start and $end"


def _names_in_the_source(model: Any) -> Iterator[Fault]:
    """A snapshot has each column once, and the stages add their own."""
    source, target = model.source, model.training.target
    reserved = RESERVED | ({tasks.PROBABILITIES} if tasks.TASKS[model.training.task].of_labels else set())
    times = {
        "source.event_time": source.event_time,
        "source.label_time": source.label_time,
        "source.arrival_time": source.arrival_time,
    }
    own = {one_name(name) for name in (source.key, *times.values()) if name is not None}
    if source.key is not None:
        for key, name in times.items():
            if name not in (None, source.key) and one_name(name) == one_name(source.key):
                yield key, f"{name} is the column {source.key}: write it as source.key does"
        if one_name(target) == one_name(source.key):
            yield "training.target", f"{target} is the key already"
    if one_name(target) in {one_name(time) for time in times.values() if time is not None}:
        yield "training.target", f"{target} is a time already"
    for key, name in (("source.key", source.key), *times.items(), ("training.target", target)):
        if name is not None and one_name(name) in reserved:
            yield key, f"{name} is a name that the stages use; rename the column in the query"
    for kind in ("numeric", "datetime", "text", "categorical"):
        for name in getattr(model.training, kind):
            if one_name(name) in own:
                yield f"training.{kind}", f"{name} is the key or a time and cannot be a feature"
            elif one_name(name) in reserved | BESIDE_FEATURES:
                user = "the stages use" if one_name(name) in reserved else "the monitor uses"
                why = f"{name} is a name that {user} and cannot be a feature"
                yield f"training.{kind}", f"{why}; rename the column in the query"


def _metric(model: Any) -> Iterator[Fault]:
    metric = model.evaluation.metric
    fitting = [each.name for each in tasks.TASKS[model.training.task].metrics]
    if metric not in fitting:
        why = f"metric {metric} does not fit the task {model.training.task}, which has {', '.join(fitting)}"
        yield "evaluation.metric", why


def _limits_of_the_metric(model: Any) -> Iterator[Fault]:
    metric, limit, margin = model.evaluation.metric, model.gates.metric_limit, model.gates.baseline_margin
    of, tolerance = tasks.METRICS[metric], model.gates.champion_tolerance
    if of.higher_is_better and limit > 1:
        yield "gates.metric_limit", f"{metric} is at most 1, so {limit:g} is never reached; 60 percent are 0.6"
    if not of.higher_is_better and limit <= 0:
        yield "gates.metric_limit", f"{metric} is never below 0, so {limit:g} is never reached"
    if of.higher_is_better and margin > 1:
        yield "gates.baseline_margin", f"{metric} is at most 1, so a margin of {margin:g} is never reached"
    if of.higher_is_better and tolerance > 1:
        yield "gates.champion_tolerance", f"{metric} is at most 1, so {tolerance:g} stops nothing; 2 percent are 0.02"


def _shares(model: Any) -> Iterator[Fault]:
    """Of an error in the target's own unit these limits are shares of the naive guess's error."""
    if tasks.METRICS[model.evaluation.metric].in_targets_unit:
        for key in ("gates.baseline_margin", "gates.champion_tolerance", "monitor.quality_drop"):
            if (value := attrgetter(key)(model)) > 1:
                yield key, f"is a share of the naive guess's {model.evaluation.metric}, from 0 to 1; got {value:g}"


def _holdout(model: Any) -> Iterator[Fault]:
    if model.evaluation.holdout_days >= model.source.window_days:
        yield "evaluation.holdout_days", "evaluation.holdout_days must be shorter than source.window_days"


def _golden(model: Any) -> Iterator[Fault]:
    golden, rows = model.evaluation.golden_rows, model.rollout.serving.max_rows
    if golden > rows:
        yield "evaluation.golden_rows", f"is {golden:,}, but a request may have rollout.serving.max_rows, {rows:,}"


def _columns_of_rules(model: Any) -> Iterator[Fault]:
    training = model.training
    text = {model.source.key, *training.categorical}
    text |= {training.target} if tasks.TASKS[training.task].of_labels else set()
    known = {*training.features, training.target, *training.weights, *text}
    for hook in named_twice(model.gates.own):
        yield "gates.own", f"named twice: {hook}"
    for column, rule in model.gates.contract.columns.items():
        listed = "datetime" if column in training.datetime else "text" if column in training.text else ""
        if column not in known:
            yield "gates.contract.columns", f"names no feature, key or target: {column}"
        elif fault := rule.does_not_fit(column in text, listed):
            yield f"gates.contract.columns.{column}", fault
        elif column == model.training.target and (other := _no_labels(model.training.task, rule.allowed or ())):
            yield (
                f"gates.contract.columns.{column}",
                f"allowed: {other[0]} is no label of task {model.training.task}, 0 or 1",
            )


def _gate_modes(model: Any) -> Iterator[Fault]:
    for gate in model.gates.modes:
        if gate not in (*NAMES, *model.gates.own):
            yield "gates.modes", f"no gate is called {gate}; the gates are {', '.join((*NAMES, *model.gates.own))}"


def _no_labels(task: str, allowed: Iterable[Any]) -> list[Any]:
    labels = tasks.TASKS[task].allowed
    return [value for value in allowed if value not in labels] if labels is not None else []


def _personal(model: Any) -> Iterator[Fault]:
    hidden = [column for column in model.rollout.serving.personal if column in model.training.features]
    if model.source.key is None and hidden:
        yield (
            "source.key",
            f"is needed where features are personal: without it a row is known by its features, and the prediction log does not have "
            f"{', '.join(hidden)} as asked (rollout.serving.personal)",
        )
    for column, how in model.rollout.serving.personal.items():
        if column not in {*model.training.features, model.source.key}:
            yield "rollout.serving.personal", f"names no feature or key: {column}"
        elif column in model.training.text and how == "hash":
            why = "a text is never logged, only its size; drop leaves that out too"
            yield f"rollout.serving.personal.{column}", f"must be drop, or nothing: {why}"


def _follow(model: Any) -> Iterator[Fault]:
    follow = model.rollout.follow
    followed = followed_column(follow)
    if follow and not (HEADER_NAME.match(follow) or followed):
        yield "rollout.follow", f"follow must be the name of a request header or body:COLUMN; got {follow!r}"
    elif followed and followed not in {*model.training.features, model.source.key}:
        yield "rollout.follow", f"names no feature or key: {followed}"


def _drift(model: Any) -> Iterator[Fault]:
    limit, personal = model.monitor.features_limit, model.rollout.serving.personal
    calendar = [name for name, rule in model.gates.contract.columns.items() if rule.calendar]
    features = [name for name in model.training.features if name not in personal and name not in calendar]
    if limit > max(len(features), 1):
        kinds = [kind for kind, names in (("personal", personal), ("calendar", calendar)) if names]
        without = f" without the {' and '.join(kinds)} ones" if kinds else ""
        yield (
            "monitor.features_limit",
            f"is {limit}, but the model has {len(features)} features{without}, so nothing is ever drift",
        )


def _rollout(model: Any) -> Iterator[Fault]:
    rollout = model.rollout
    if rollout.hold_s <= rollout.bake_s:
        yield "rollout.hold_s", "hold_s must be longer than bake_s"
    if fault := rollout.nothing_to_judge(rollout.strategy):
        yield "rollout.strategy", fault


def _scoring(model: Any) -> Iterator[Fault]:
    """The key and the event time stand in the output beside the columns that scoring adds."""
    if model.scoring is None:
        return
    for key, name in (("source.key", model.source.key), ("source.event_time", model.source.event_time)):
        if name is not None and one_name(name) in OWN_COLUMNS:
            yield key, f"{name} is a column that scoring adds to its answers; rename it in the queries"


def _size(key: str, largest: int) -> Callable[[Any], Iterator[Fault]]:
    def check(model: Any) -> Iterator[Fault]:
        value = attrgetter(key)(model)
        if value is not None and value > largest:
            yield key, f"must be at most {largest:,}; got {value:g}"

    return check


CHECKS = (
    _schedule,
    _source,
    _names_in_the_source,
    *training_agreement.CHECKS,
    _metric,
    _limits_of_the_metric,
    _shares,
    _holdout,
    stated,
    _golden,
    _columns_of_rules,
    _gate_modes,
    model_gates.faults,
    gates_that_apply.faults,
    monitor_slices.faults,
    _personal,
    _follow,
    _drift,
    _rollout,
    approval.faults,
    _scoring,
    economics.disagreements,
    *(_size(key, largest) for key, largest in LARGEST.items()),
)
