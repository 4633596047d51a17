"""Runs every gate on the files of a run. Every gate reports, also after one has failed.

A new gate is a file in this folder with a function `verdict`, named in one of the two lists below. It returns None where it
does not apply. A team's own gate needs no change here: see `own`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.errors import GateError, PerennialError
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
    refit,
    rows_a_day,
    schema,
    slices,
    supply_chain,
    unknown_categories,
    unknown_ranges,
)
from pipeline.gates.base import LiveFacts, PackagedModel, ValidatedData, Verdict
from pipeline.gates.image_system import ServingSystem
from pipeline.gates.judged_champion import JudgedChampion
from pipeline.gates.packaged import packaged_model
from pipeline.settings.models import Model
from pipeline.workspaces.dvc_graph import Artifacts, read_json

log = logging.getLogger(__name__)

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
    refit.verdict,
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
    champion_trained_to: str | None = None,
    live: LiveFacts | None = None,
    judged_champion: JudgedChampion | None = None,
    serving_system: Callable[[str], ServingSystem] | None = None,
) -> list[Verdict]:
    """The verdicts of all gates on the packaged model that are not off, those on its data first; the arguments are those of
    `packaged_model`, and parts of a `PackagedModel`."""
    asked: dict[str, Any] = {
        "backfill": backfill,
        "accept_schema_change": accept_schema_change,
        "champion_trained_to": champion_trained_to,
    }
    packaged = packaged_model(model, files, champion_package, champion_version, **asked, live=live)
    packaged = replace(packaged, judged_champion=judged_champion, serving_system=serving_system)
    ours = [_asked(gate, packaged) for gate in (*DATA_GATES, *MODEL_GATES) if not _is_off(model, name_of(gate))]
    own_gates = own.verdicts(model, files, champion_package, champion_version, judged_champion, **asked)
    return _in_their_modes(model, [*ours, *own_gates])


def data_verdicts(model: Model, files: Artifacts) -> list[Verdict]:
    """The verdicts of the gates that need only the validated data."""
    data = ValidatedData(model, read_json(files.validation))
    return _in_their_modes(model, [_asked(gate, data) for gate in DATA_GATES if not _is_off(model, name_of(gate))])


def _asked(gate: Callable[[Any], Verdict | None], given: ValidatedData) -> Verdict | None:
    """What the gate says. One that ends with an error has not passed, and the others report none the less."""
    try:
        return gate(given)
    except (MemoryError, OSError):
        # The machine's fault, not the version's.
        raise
    except Exception as error:
        name = name_of(gate)
        log.exception("gate %s", name)
        what = error if isinstance(error, PerennialError) else f"{type(error).__name__}: {str(error).strip()}"
        reason = f"ended with an error and has judged nothing ({' '.join(str(what).split())[:300]}); gates.modes.{name}: warn lets a version pass without it"
        return Verdict(name, False, 0.0, 0.0, reason, judged=False)


def name_of(gate: Callable[..., Verdict | None]) -> str:
    """A gate's name is that of its file: `gates.modes` and the verdict have the same."""
    return gate.__module__.rpartition(".")[2]


def _is_off(model: Model, gate: str) -> bool:
    return model.gates.modes.get(gate) == "off"


def _in_their_modes(model: Model, results: Iterable[Verdict | None]) -> list[Verdict]:
    """The verdicts of the gates that apply, each in the mode that `gates.modes` gives it, else in its own."""
    modes = model.gates.modes
    return [
        replace(each, mode=modes.get(each.gate, each.mode), mode_is_set=each.gate in modes)
        for each in results
        if each is not None
    ]


def refuse_failed(name: str, verdicts: list[Verdict]) -> None:
    """Raises GateError with the reason of every gate that failed and is on."""
    failed = [verdict for verdict in verdicts if verdict.stops]
    if failed:
        raise GateError(
            f"{name} gates",
            "; ".join(f"{verdict.gate}: {verdict.reason}" for verdict in failed),
            "nothing was registered and what is live stays live",
        )
