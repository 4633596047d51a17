"""Is the challenger not worse than the champion on the same held-out rows?

The champion answers through its own package, exactly as it does live. It may have been trained on some
of these rows; that favours the champion, so the gate errs on the side of what is live.
"""

from __future__ import annotations

import pandas as pd

from pipeline.gates.base import Verdict
from pipeline.serving.runtime import Runtime
from pipeline.settings.models import Model
from pipeline.training.evaluate import PREDICTION, better_by, metrics


def not_worse(held_out: pd.DataFrame, model: Model, champion: Runtime | None, version: str | None) -> Verdict:
    tolerance, metric = model.gates.champion_tolerance, model.evaluation.metric
    if champion is None:
        return Verdict("champion", True, 0.0, -tolerance, "there is no champion yet")
    wanted = set(champion.features)
    if not wanted <= set(held_out.columns):
        gone = ", ".join(sorted(wanted - set(held_out.columns)))
        return Verdict(
            "champion",
            False,
            float("nan"),
            -tolerance,
            f"the champion, version {version}, needs {gone}, which the data no longer has",
        )
    target = held_out[model.training.target].to_numpy()
    theirs = metrics(model.training.task, target, champion.predict_frame(held_out))[metric]
    ours = metrics(model.training.task, target, held_out[PREDICTION].to_numpy())[metric]
    gain = better_by(metric, ours, theirs)
    return Verdict(
        "champion",
        gain >= -tolerance,
        gain,
        -tolerance,
        f"{metric} {ours:.4f} against {theirs:.4f} for version {version} on the same {len(held_out):,} rows",
    )
