"""What the domain classifier adds to a verdict: one more feature, which stands for how the numbers go together."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from pipeline.monitoring import domain_classifier
from pipeline.monitoring.domain_classifier import DomainClassifier, Together, block_of
from pipeline.monitoring.drift import DriftVerdict, FeatureDrift, Score
from pipeline.monitoring.feature_drift import NO_SHAPE
from pipeline.settings.models import DriftLimits


def columns_of(numbers: Sequence[str], importances: Mapping[str, float]) -> list[str]:
    """The numbers that the classifier takes: those that matter most, in a fixed order where nobody measured it."""
    ordered = sorted(numbers, key=lambda name: (-importances.get(name, 0.0), numbers.index(name)))
    return ordered[: domain_classifier.MOST_COLUMNS]


def together(
    reference: pd.DataFrame,
    now: pd.DataFrame,
    times: str,
    columns: Sequence[str],
    share: float,
    kept: Path,
    digest: str,
) -> Together | None:
    """Of a sample of the reference, which has its event times in the column `times`, and of logged requests. None where there is too
    little of either. The null of the reference is kept in the file `kept` by its digest: it takes some seconds, once."""
    if len(columns) < 2 or not len(now) or not {*columns, times} <= {*reference.columns}:
        return None
    block = block_of(now, now["event_time"], columns)
    if not block.enough:
        return None
    found = DomainClassifier(block_of(reference, reference[times], columns), columns)
    if found.weeks < domain_classifier.LEAST_WEEKS:
        return None
    return found.judged(block, _null(found, kept, digest), share)


def _null(found: DomainClassifier, kept: Path, digest: str) -> list[float]:
    of = {"reference": digest, "columns": list(found.columns), "rows": domain_classifier.BLOCK_ROWS}
    if known := _known(kept, of):
        return known
    null = found.null()
    kept.parent.mkdir(parents=True, exist_ok=True)
    aside = kept.with_suffix(f".{os.getpid()}")
    aside.write_text(json.dumps({"of": of, "null": null}), encoding="utf-8")
    aside.replace(kept)
    return null


def _known(kept: Path, of: Mapping[str, object]) -> list[float]:
    """What the file has of this reference; none where it is of another, or damaged: then it is measured again."""
    try:
        known = json.loads(kept.read_text(encoding="utf-8"))
        return [float(auc) for auc in known["null"]] if known["of"] == of else []
    except (OSError, ValueError, KeyError, TypeError):
        return []


def with_together(verdict: DriftVerdict, found: Together, limits: DriftLimits) -> DriftVerdict:
    """The verdict with the classifier's. It may raise an alarm, and ends none that the features raise."""
    score = Score(domain_classifier.MEASURE, found.auc, found.limit, found.reason)
    feature = FeatureDrift(domain_classifier.NAME, (score,), shape=NO_SHAPE)
    joined = replace(verdict, features=(*verdict.features, feature))
    if not found.moved:
        return joined
    moved = len(joined.moved)
    return replace(
        joined,
        verdict="drift" if moved >= limits.features_limit else verdict.verdict,
        reason=f"{verdict.reason}; {feature.feature} changed ({found.reason})",
    )
