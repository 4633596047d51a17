"""Runs every gate on a workspace's artifacts. Says no by raising only after all have spoken."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pipeline.errors import GateError
from pipeline.gates import champion, data_contract, metric_limit, naive_baseline, parity
from pipeline.gates.base import Verdict
from pipeline.serving.runtime import Runtime
from pipeline.settings.models import Model
from pipeline.workspaces.dvc_graph import Artifacts, read_json


def verdicts(
    model: Model, files: Artifacts, champion_package: Path | None, champion_version: str | None, backfill: bool = False
) -> list[Verdict]:
    """What every gate says of the packaged model, in the order in which a person would ask.

    A backfill's model is not compared with the champion: it never takes its place, and what is live today may
    not decide what the past looked like.
    """
    evaluation = read_json(files.metrics)
    held_out = pd.read_parquet(files.predictions)
    current = Runtime.load(champion_package) if champion_package else None
    gates = model.gates
    told = data_verdicts(model, files)
    told += [
        metric_limit.good_enough(evaluation, gates.metric_limit),
        naive_baseline.beats_guess(evaluation, gates.baseline_margin),
    ]
    if not backfill:
        told.append(champion.not_worse(held_out, model, current, champion_version))
    return [*told, parity.same_answers(held_out, Runtime.load(files.package), gates.parity_tolerance)]


def data_verdicts(model: Model, files: Artifacts) -> list[Verdict]:
    """What the gates say that ask for nothing but the data; they can speak as soon as it is validated."""
    validation, contract = read_json(files.validation), model.gates.contract
    told = [data_contract.enough_rows(validation, contract), data_contract.few_bad_rows(validation, contract)]
    if contract.rows_a_day is not None:
        told.append(data_contract.usual_days(validation, contract))
    return [*told, data_contract.values_as_usual(validation, contract)]


def refuse_failed(name: str, told: list[Verdict]) -> None:
    """Raises GateError with every reason when a gate failed."""
    failed = [v for v in told if not v.passed]
    if failed:
        raise GateError(
            f"{name} gates",
            "; ".join(f"{v.gate}: {v.reason}" for v in failed),
            "nothing was registered and what is live stays live",
        )
