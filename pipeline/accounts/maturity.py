"""How far a model's deployments are automated, by the study's levels, judged by what the ledger saw and not by what is installed.

0 manual: nothing went live here. 1 semi-automated: versions went live by hand. 2 CI/CD for ML: a run of the pipeline, with its gates,
brought one live. 3 full automation: such a run was started by a schedule or an event, without a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.accounts.deployment_figures import Happened, History

NAMES = ("manual", "semi-automated", "CI/CD for ML", "full automation")
# How Airflow begins the ids of runs that no person started.
BY_ITSELF = ("scheduled__", "asset_triggered__", "backfill__")


def maturity(past: History) -> dict[str, Any]:
    """The level that all models with a deployment have reached, and the deployments that show it."""
    of_model: dict[str, list[Happened]] = {}
    for each in past.live:
        of_model.setdefault(each.model, []).append(each)
    levels = {model: _level(live) for model, live in of_model.items()}
    level = min((reached for reached, _ in levels.values()), default=0)
    events = [seq for reached, seqs in levels.values() if reached == level for seq in seqs]
    return {
        "level": level,
        "name": NAMES[level],
        "known": "measured",
        "why": "the lowest of the models that have a deployment" if levels else "nothing went live here",
        "by_model": {model: reached for model, (reached, _) in levels.items()},
        "events": events[-20:],
    }


def _level(live: Sequence[Happened]) -> tuple[int, list[int]]:
    """(the level, the numbers of the deployments that show it)."""
    piped = [each for each in live if each.run.startswith("retrain__")]
    alone = [each for each in piped if each.run.partition("/")[2].startswith(BY_ITSELF)]
    shown = alone or piped or live
    return (3 if alone else 2 if piped else 1), [each.seq for each in shown]
