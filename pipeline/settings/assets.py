"""Airflow's assets of other Dags, whose events start a model's Dags."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AfterValidator

# Airflow's own limit.
LONGEST = 1500


def _asset_name(written: str) -> str:
    if not (written.isascii() and written.isprintable() and written == written.strip() and 0 < len(written) <= LONGEST):
        raise ValueError(f"must be an asset's name or URI, of 1 to {LONGEST:,} ASCII letters; got {written[:40]!r}")
    return written


AssetName = Annotated[str, AfterValidator(_asset_name)]


def drift_asset_of(model: str) -> tuple[str, str]:
    """(name, URI) of the asset whose event the monitor Dag emits, and the retrain Dag starts from."""
    return f"drift__{model}", f"perennial://drift/{model}"


def champion_asset_of(model: str) -> str:
    """The name, and so the URI, of the asset whose event says that a version went live."""
    return f"champion__{model}"


def own_events(name: str, model: Any) -> Iterator[tuple[str, str]]:
    """(key below the model's name, what is wrong) for each asset of the model's own whose event would start what emits it."""
    for asset in model.schedule.on_asset:
        if asset in drift_asset_of(name):
            yield "schedule.on_asset", f"{asset} starts the retrain Dag anyway; leave it out"
        if asset == champion_asset_of(name):
            yield "schedule.on_asset", f"{asset} is emitted by the retrain Dag itself, which would never end"
    for asset in model.monitor.on_asset:
        if asset in drift_asset_of(name):
            yield "monitor.on_asset", f"{asset} is emitted by the monitor Dag itself"
