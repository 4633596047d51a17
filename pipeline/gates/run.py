"""Runs every gate on the files of a run. Every gate reports, also after one has failed.

A new gate is a file in this folder with a function `verdict`, named in one of the two lists below. It returns None where it
does not apply. A team's own gate needs no change here: see `own`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from pipeline.errors import GateError
from pipeline.gates import (
    automatic_slices,
    calibration,
    champion,
    churn,
    constant_prediction,
    data_contract,
    enough_rows,
    fairness,
    held_out_rows,
    importance_jump,
    leakage,
    metric_limit,
    missing_values,
    naive_baseline,
    one_row_latency,
    onnx_parity,
    own,
    package_size,
    perfect_score,
    rows_a_day,
    schema,
    slices,
    supply_chain,
    unknown_categories,
    unknown_ranges,
)
from pipeline.gates.base import LiveFacts, PackagedModel, ValidatedData, Verdict
from pipeline.gates.packaged import packaged_model
from pipeline.settings.models import Model
from pipeline.workspaces.dvc_graph import Artifacts, read_json

# In the order of the report. These need only the data, so they run before anything is trained.
DATA_GATES: tuple[Callable[[ValidatedData], Verdict | None], ...] = (
    enough_rows.verdict,
    held_out_rows.verdict,
    data_contract.verdict,
    rows_a_day.verdict,
    missing_values.verdict,
)
MODEL_GATES: tuple[Callable[[PackagedModel], Verdict | None], ...] = (
    metric_limit.verdict,
    naive_baseline.verdict,
    schema.verdict,
    unknown_categories.verdict,
    unknown_ranges.verdict,
    champion.verdict,
    slices.verdict,
    automatic_slices.verdict,
    fairness.verdict,
    calibration.verdict,
    constant_prediction.verdict,
    perfect_score.verdict,
    leakage.verdict,
    importance_jump.verdict,
    churn.verdict,
    onnx_parity.verdict,
    package_size.verdict,
    one_row_latency.verdict,
    supply_chain.verdict,
)


def verdicts(
    model: Model,
    files: Artifacts,
    champion_package: Path | None,
    champion_version: str | None,
    backfill: bool = False,
    accept_schema_change: bool = False,
    live: LiveFacts | None = None,
) -> list[Verdict]:
    """The verdicts of all gates on the packaged model, those on its data first."""
    packaged = packaged_model(
        model, files, champion_package, champion_version, backfill, accept_schema_change, live=live
    )
    ours = (gate(packaged) for gate in (*DATA_GATES, *MODEL_GATES))
    asked = {"backfill": backfill, "accept_schema_change": accept_schema_change}
    own_gates = own.verdicts(model, files, champion_package, champion_version, **asked)
    return _in_their_modes(model, [*ours, *own_gates])


def data_verdicts(model: Model, files: Artifacts) -> list[Verdict]:
    """The verdicts of the gates that need only the validated data."""
    data = ValidatedData(model, read_json(files.validation))
    return _in_their_modes(model, (gate(data) for gate in DATA_GATES))


def _in_their_modes(model: Model, results: Iterable[Verdict | None]) -> list[Verdict]:
    """The verdicts of the gates that apply and are not off, each in the mode that `gates.modes` gives it, else in its own."""
    modes = model.gates.modes
    found = [replace(verdict, mode=modes.get(verdict.gate, verdict.mode)) for verdict in results if verdict is not None]
    return [verdict for verdict in found if verdict.mode != "off"]


def refuse_failed(name: str, verdicts: list[Verdict]) -> None:
    """Raises GateError with the reason of every gate that failed and is on."""
    failed = [verdict for verdict in verdicts if verdict.stops]
    if failed:
        raise GateError(
            f"{name} gates",
            "; ".join(f"{verdict.gate}: {verdict.reason}" for verdict in failed),
            "nothing was registered and what is live stays live",
        )
