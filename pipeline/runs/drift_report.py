"""The pages of a look at a model: ours of its profiles, and for an alarm Evidently's of a sample, for people who know its pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.context import Context
from pipeline.ledger.events import DriftChecked
from pipeline.ledger.timeline import LiveVersion
from pipeline.ledger.usage_events import BytesMoved
from pipeline.serving.schema import Schema
from pipeline.serving.schema.blocks import number_matrix
from pipeline.settings.models import time_of

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.monitoring.drift import DriftVerdict
    from pipeline.monitoring.drift_page import Sides
    from pipeline.monitoring.look_lines import PastLook
    from pipeline.monitoring.skew import Skew

LOOKS_SHOWN = 60


def page_file(context: Context, name: str, as_of: datetime, version: str) -> Path:
    """Where the page of a look is written."""
    return context.home / "reports" / name / f"{as_of:%Y-%m-%dT%H%M}-v{version}.html"


def evidently_file(page: Path) -> Path:
    """Where Evidently's page is written, beside ours."""
    return page.with_name(f"{page.stem}-evidently.html")


@dataclass(frozen=True)
class Shown:
    """What the pages of a look show: `said` is the look in one sentence, `requests` are those of the window, whose profile `sides` has, and
    `skew` says on which side an alarm is, and `data` are lines on the data beside its values."""

    as_of: datetime
    drift: DriftVerdict
    said: str
    sides: Sides
    requests: pd.DataFrame
    schema: Schema
    skew: Skew | None = None
    data: Sequence[str] = ()


def write(context: Context, name: str, live: LiveVersion, look: Shown) -> Path | None:
    """Writes the pages and returns ours, which in server mode is kept with its version too; None when too few rows were compared."""
    from pipeline.monitoring.drift_page import drift_page
    from pipeline.registry import record

    if not look.drift.features:
        return None
    page = page_file(context, name, look.as_of, live.version)
    page.parent.mkdir(parents=True, exist_ok=True)
    theirs, file = None, evidently_file(page)
    if look.drift.changed:
        theirs = _evidently(context, name, live, look, file)
    beside = file.name if theirs is not None else ""
    looks = _looks(context, name, look)
    serving = look.skew.serving if look.skew else ()
    text = drift_page(look.drift, look.sides, look.said, looks, theirs, beside, serving, look.data)
    page.write_text(text, encoding="utf-8")
    if context.server_mode:
        pages = (page, *([file] if beside else []))
        for written in pages:
            record.log_report(context.registry, name, live.version, written)
        moved = sum(written.stat().st_size for written in pages)
        context.ledger.append(BytesMoved(what="pages of a look", bytes=moved), name)
    return page


def _evidently(context: Context, name: str, live: LiveVersion, look: Shown, file: Path) -> Mapping[str, float] | None:
    """Evidently's PSI of each feature that it drew; None when it drew none."""
    import pandas as pd

    from pipeline.monitoring import drift_picture, drift_reference

    model = context.params.model(name)
    sample = pd.read_parquet(context.registry.reference_file(name, live.version, live.digest))
    names = drift_reference.names(drift_reference.features(model))
    return (
        drift_picture.draw(as_logged(sample, look.schema), look.requests, *names, model.monitor.sample_rows, file)
        or None
    )


def _looks(context: Context, name: str, look: Shown) -> list[PastLook]:
    """The looks before this one, of each as-of the newest, and this one."""

    found: dict[datetime, PastLook] = {}
    for entry in context.ledger.events(DriftChecked, model=name):
        as_of = time_of(entry.event.as_of)
        if as_of < look.as_of:
            found[as_of] = _look(as_of, entry.event.features)
    found[look.as_of] = _look(look.as_of, look.drift.as_dict()["features"])
    return [found[as_of] for as_of in sorted(found)][-LOOKS_SHOWN:]


def _look(as_of: datetime, features: Sequence[Mapping[str, Any]]) -> PastLook:
    from pipeline.monitoring.look_lines import PastLook

    # A look of an earlier version may have none.
    times = {f["feature"]: f["times_limit"] for f in features if f.get("times_limit") is not None}
    return PastLook(f"{as_of:%Y-%m-%d %H:%M}", times, {f["feature"]: f for f in features})


def as_logged(rows: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """The rows, which a model of that schema learnt from, with their times and texts in numbers, as the prediction log has them."""
    for column in schema.columns:
        if column.kind in ("datetime", "text"):
            numbers = number_matrix(rows, [column], schema.zone, schema.event_time)
            rows = rows.assign(**{name: numbers[:, i] for i, name in enumerate(column.matrix)})
    return rows
