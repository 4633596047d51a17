"""Settings of single gates on a model, one section each. A gate of a stated limit stops; pipeline.gates says which defaults only warn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from pipeline.settings.columns import RESERVED, ColumnName, named_twice, one_name
from pipeline.settings.section import MOST, Section
from pipeline.settings.times import LONGEST_DAYS
from pipeline.training import tasks


class Slices(Section):
    """`limit` is a share of the naive guess's loss."""

    columns: tuple[ColumnName, ...] = ()
    limit: float = Field(default=0.1, gt=0, le=MOST)
    min_rows: int = Field(default=200, ge=2, le=MOST)
    # From so many rows on a slice that nobody named is looked at.
    automatic_rows: int = Field(default=200, ge=2, le=MOST)


class Fairness(Section):
    """`gates.fairness`: differences between groups of people that a version may show at most, from 0 to 1; None checks
    none."""

    columns: tuple[ColumnName, ...] = ()
    demographic_parity: float | None = Field(default=0.1, gt=0, le=1)
    equalised_odds: float | None = Field(default=0.1, gt=0, le=1)
    # From this probability on the decision on a row of a binary task is yes.
    threshold: float = Field(default=0.5, gt=0, lt=1)
    min_rows: int = Field(default=100, ge=2, le=MOST)


class Calibration(Section):
    """`gates.calibration`: how far probabilities may be from what came true, on average, from 0 to 1."""

    error: float = Field(default=0.1, gt=0, le=1)


class Sanity(Section):
    """What looks too good or too poor to be true; shares of what is possible."""

    same_answer: float = Field(default=0.999, gt=0, le=1)
    perfect: float = Field(default=0.998, gt=0, le=1)
    # How much of the way from a guess to a perfect score one feature may go alone.
    one_feature: float | None = Field(default=None, gt=0, le=1)
    # Features that may, because they are known before the target is.
    known_before: tuple[ColumnName, ...] = ()
    importance_jump: float = Field(default=0.5, gt=0, le=1)


class Churn(Section):
    """Shares of recorded live requests; None is `rollout.limits.churn`."""

    limit: float | None = Field(default=None, gt=0, le=1)
    rows: int = Field(default=5000, ge=1, le=MOST)
    min_rows: int = Field(default=200, ge=2, le=MOST)


class Export(Section):
    """`gates.export`: the largest package, in MB of 10^6 bytes, and the longest 99th percentile of one row, in ms."""

    size_mb: float = Field(default=500, gt=0, le=MOST)
    p99_ms: float = Field(default=1000, gt=0, le=MOST)


class SupplyChain(Section):
    """`vulnerabilities` is a file, a folder or a zip of records in the OSV form, from the project's folder; `licences` are SPDX ids, and
    `system_licences` those of the image's distribution, in its words."""

    vulnerabilities: str | None = Field(default=None, min_length=1)
    # How old the newest of these records may be.
    database_days: float | None = Field(default=None, gt=0, le=LONGEST_DAYS)
    licences: tuple[str, ...] = ()
    system_licences: tuple[str, ...] = ()
    # Whether only what a newer version of its package mends stops.
    only_fixed: bool = False
    # Ids of vulnerabilities that somebody has looked at and accepted.
    accepted: tuple[str, ...] = ()


def group_columns(gates: Any) -> list[str]:
    """The columns by which `gates` forms groups of rows, each once."""
    return list(dict.fromkeys([*gates.slices.columns, *gates.fairness.columns]))


def faults(model: Any) -> Iterator[tuple[str, str]]:
    """(key, what is wrong) with the columns that these sections name."""
    gates, training, source = model.gates, model.training, model.source
    odd = {one_name(training.target): "the target", **{one_name(name): "a free text" for name in training.text}}
    times = [source.event_time, source.label_time, source.arrival_time, *training.datetime]
    odd |= {one_name(name): "a time" for name in times if name} | (
        {one_name(source.key): "the key"} if source.key else {}
    )
    known = {one_name(name): name for name in [*training.features, *training.weights]}
    for section in ("slices", "fairness"):
        key, columns = f"gates.{section}.columns", getattr(gates, section).columns
        for name in named_twice(columns):
            yield key, f"named twice: {name}"
        for name in columns:
            if what := odd.get(one_name(name)):
                yield key, f"{name} is {what}, and forms no groups"
            elif one_name(name) in RESERVED | {tasks.PROBABILITIES}:
                yield key, f"{name} is a name that the stages use; rename the column in the query"
            elif known.get(one_name(name), name) != name:
                yield key, f"{name} is the column {known[one_name(name)]}: write it as training does"
    if gates.fairness.columns and tasks.TASKS[training.task].output == "number":
        yield (
            "gates.fairness.columns",
            f"is for decisions; the task is {training.task}: name the columns in gates.slices",
        )
    for name in gates.sanity.known_before:
        if name not in training.features:
            yield "gates.sanity.known_before", f"names no feature: {name}"
