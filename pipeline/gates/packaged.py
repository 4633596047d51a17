"""What a gate on the model gets, from the files of its run."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pipeline.errors import StageError
from pipeline.gates.base import LiveFacts, PackagedModel
from pipeline.serving.errors import PackageRefused
from pipeline.serving.runtime import Runtime
from pipeline.settings.models import Model, time_of
from pipeline.training import refit
from pipeline.training.evaluate import Evaluation
from pipeline.training.package import TRAINED_TO
from pipeline.workspaces.dvc_graph import Artifacts, read_json


def packaged_model(
    model: Model,
    files: Artifacts,
    champion_package: Path | None,
    champion_version: str | None,
    backfill: bool = False,
    accept_schema_change: bool = False,
    champion_trained_to: str | None = None,
    live: LiveFacts | None = None,
) -> PackagedModel:
    """The model with its held-out rows and package, and the champion's package where there is a champion.

    `champion_trained_to` is for a champion whose manifest does not say it.
    """
    champion = Runtime.load(champion_package) if champion_package else None
    trained_to = champion.manifest.get(TRAINED_TO, champion_trained_to) if champion is not None else None
    held_out = pd.read_parquet(files.predictions)
    return PackagedModel(
        model,
        read_json(files.validation),
        Evaluation.read(files.metrics),
        held_out,
        _package(files),
        champion,
        champion_version,
        backfill,
        accept_schema_change,
        champion_trained_to=time_of(trained_to) if trained_to else None,
        reference=_learnt(pd.read_parquet(files.reference), held_out, model) if files.reference.is_file() else None,
        package_bytes=sum(file.stat().st_size for file in files.package.iterdir() if file.is_file()),
        root=files.folder.parents[1],
        live=live,
        served=pd.read_parquet(files.served_predictions) if files.served_predictions != files.predictions else None,
        known=refit.known_before(files.refit),
    )


def _package(files: Artifacts) -> Runtime:
    """The run's own package. Raises StageError where it is not what was packaged: a stage that is not run again has it from DVC's cache."""
    try:
        return Runtime.load(files.package)
    except PackageRefused as error:
        check = "a copy in DVC's cache may be damaged: remove .dvc/cache, the remote has what was in it, and run again"
        raise StageError(f"model {files.folder.name}", str(error), check) from error


def _learnt(reference: pd.DataFrame, held_out: pd.DataFrame, model: Model) -> pd.DataFrame | None:
    """Those of the reference sample that the judged model learnt from: the sample is of what is served, which may know held-out rows too.
    None where a small sample has none of them."""
    event_time = model.source.event_time
    learnt = reference[reference[event_time] < held_out[event_time].min()]
    return None if learnt.empty else learnt
