"""Does the model suddenly lean on one feature?

Its importance is compared with the one that the live version's evaluation recorded, each as a share of all features' together. A jump may be
a leak that came with new data, or a column that was filled anew. Two features that say the same may change places without harm, so the
limit stops where params.yaml states it, and else warns.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.gates.base import PackagedModel, Table, Verdict

SHOWN = 10


def verdict(packaged: PackagedModel) -> Verdict | None:
    """None for a backfill, and where either version's importances are not known. The observed figure is the largest rise of a share."""
    before = _shares(packaged.live.importances if packaged.live else {})
    now = _shares(packaged.evaluation.importances)
    if packaged.backfill or not before or not now:
        return None
    sanity, limit = packaged.model.gates.sanity, packaged.model.gates.sanity.importance_jump
    ranked = sorted(now, key=lambda name: now[name] - before.get(name, 0.0), reverse=True)
    most = ranked[0]
    rise = now[most] - before.get(most, 0.0)
    reason = (
        f"{most} has {now[most]:.0%} of the importance of all features, {before.get(most, 0.0):.0%} in version "
        f"{packaged.champion_version}; a share may rise by {limit:.0%} (gates.sanity.importance_jump)"
    )
    table = Table(("feature", "share before", "share now"), tuple((n, before.get(n), now[n]) for n in ranked[:SHOWN]))
    stated = "importance_jump" in sanity.model_fields_set
    return Verdict("importance_jump", rise <= limit, rise, limit, reason, mode="on" if stated else "warn", table=table)


def _shares(importances: Mapping[str, float]) -> dict[str, float]:
    whole = sum(importances.values())
    return {name: value / whole for name, value in importances.items()} if whole > 0 else {}
