"""What the keys of a block's `training` must say together, and with the keys that they lean on (see pipeline.settings.agreement)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.settings import estimators
from pipeline.settings.columns import HOOK, RESERVED, named_twice, one_name
from pipeline.settings.examples import example
from pipeline.settings.search import search_faults
from pipeline.training import tasks

# (the key below the model's name, what is wrong with it)
Fault = tuple[str, str]


def _features(model: Any) -> Iterator[Fault]:
    features = model.training.features
    if not features:
        added = example("models.NAME.training.numeric")
        yield "training", f"name at least one feature, numeric, datetime, text or categorical, for example {added}"
    for name in named_twice(features):
        yield "training", f"named twice: {name} (upper and lower case are one column)"
    if one_name(model.training.target) in {one_name(name) for name in features}:
        yield "training", f"the target {model.training.target} may not be a feature"


def _weight(model: Any) -> Iterator[Fault]:
    weight, training, source = model.training.weight, model.training, model.source
    if weight is None:
        return
    times = {source.event_time, source.label_time, source.arrival_time}
    taken = {
        "the target": {training.target},
        "the key": {source.key},
        "a time": times,
        "a feature": {*training.features},
    }
    for what, names in taken.items():
        if one_name(weight) in {one_name(name) for name in names if name is not None}:
            yield "training.weight", f"{weight} is {what}, and a weight is none"
    if one_name(weight) in RESERVED | {tasks.PROBABILITIES}:
        yield "training.weight", f"{weight} is a name that the stages use; rename the column in the query"


def _numbers_of_features(model: Any) -> Iterator[Fault]:
    """A time and a text become numbers that have names too."""
    if not (model.training.datetime or model.training.text):
        return
    # Not above: who reads settings only shall not wait for numpy.
    from pipeline.serving.schema import Column

    features = {one_name(name) for name in model.training.features}
    training = model.training
    columns = [Column(name, "datetime", parts=training.calendar_of(name)) for name in training.datetime]
    columns += [Column(name, "text", groups=training.words) for name in training.text]
    for column in columns:
        for name in column.matrix:
            if one_name(name) in features:
                why = f"{column.name} becomes the number {name}, and a feature is called so; rename one of them"
                yield f"training.{column.kind}", why


def _word_weights(model: Any) -> Iterator[Fault]:
    training = model.training
    if training.word_weights == "counts":
        return
    if not (training.words and training.text):
        yield (
            "training.word_weights",
            "weighs groups of words: name a column under training.text, and set training.words",
        )
    name = estimators.class_named(training.estimator, estimators.kind_of(training.task))
    if ":" not in name and estimators.columns_as(name) != "scaled" and not name.endswith("NB"):
        why = f"{training.estimator} splits by a number whatever its weight; leave it at counts, or use training.estimator: linear"
        yield "training.word_weights", why


def _positive(model: Any) -> Iterator[Fault]:
    positive, task = model.training.positive, model.training.task
    if positive is not None and not tasks.TASKS[task].has_positive:
        yield "training.positive", f"is the label 1 of a binary task; the task is {task}"
    elif isinstance(positive, str) and not positive.strip():
        yield "training.positive", "is empty; name the label that becomes 1"


def _estimator(model: Any) -> Iterator[Fault]:
    estimator, kind = model.training.estimator, estimators.kind_of(model.training.task)
    if ":" in estimator:
        if not HOOK.fullmatch(estimator):
            yield "training.estimator", f"must be written as module:function; got {estimator}"
    elif why := estimators.estimator_fault(estimator, kind, model.training.calibration != "none"):
        yield "training.estimator", why


def _options(model: Any) -> Iterator[Fault]:
    kind = estimators.kind_of(model.training.task)
    for why in estimators.option_faults(model.training.estimator, kind, model.training.options):
        yield "training.options", why
    ranges = model.training.search.ranges if model.training.search is not None else {}
    for key, why in estimators.objectives_faults(
        model.training.estimator, model.training.task, model.training.options, ranges
    ):
        yield f"training.{key}", why


def _search(model: Any) -> Iterator[Fault]:
    training = model.training
    if training.search is not None:
        kind = estimators.kind_of(training.task)
        if ":" not in training.estimator and estimators.estimator_fault(training.estimator, kind, True):
            # Of an estimator that is none, nobody can say what there is to search.
            return
        for key, why in search_faults(training.search, training.estimator, kind, training.options):
            yield f"training.{key}", why


def _runtime(model: Any) -> Iterator[Fault]:
    training = model.training
    name = estimators.class_named(training.estimator, estimators.kind_of(training.task))
    if training.runtime == "skops" and name in estimators.BOOSTERS:
        yield "training.runtime", f"{training.estimator} is served from ONNX only; the serving image does not have it"


def _calibration(model: Any) -> Iterator[Fault]:
    training = model.training
    if training.calibration != "none" and estimators.kind_of(training.task) == "regressor":
        yield "training.calibration", f"{training.calibration} is for probabilities; the task is {training.task}"


def _encodings(model: Any) -> Iterator[Fault]:
    training = model.training
    yield from training.calendar_faults(model.source.event_time)
    for column in training.encodings:
        if column not in training.categorical:
            yield f"training.encodings.{column}", "is no column under training.categorical"
    native = [column for column in training.categorical if training.encoding_of(column) == "native"]
    if native and training.estimator not in estimators.NATIVE:
        key = f"training.encodings.{native[0]}" if native[0] in training.encodings else "training.encoding"
        yield (
            key,
            f"native is for boosting alone; {training.estimator} takes target, one_hot, ordinal or hashed",
        )
    if native and training.runtime == "onnx":
        yield (
            "training.runtime",
            "ONNX has no native splits by categories; set auto or skops, or another training.encoding",
        )


CHECKS = (
    _features,
    _numbers_of_features,
    _weight,
    _word_weights,
    _positive,
    _estimator,
    _options,
    _encodings,
    _calibration,
    _runtime,
    _search,
)
