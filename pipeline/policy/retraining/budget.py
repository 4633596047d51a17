"""At most so many retrains a month over a portfolio, spent where they pay most.

The best of what fits is a sort, because each retrain takes the same one of the budget (the knapsack of unit weights).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pipeline.policy.retraining.base import Decision
from pipeline.policy.retraining.figures import figure


def funded(decisions: Mapping[str, Decision], worth: Mapping[str, float], left: int) -> dict[str, Decision]:
    """The decisions of each model, by name, where at most `left` retrains are kept and the others wait.

    `worth` is what a unit of a model's cost is worth in money, since models measure their losses in units of their own. A retrain is ranked
    by what it saves beyond its cost, or where its policy does not say, by how far its score is over the limit. Going back is free.
    """
    asking = {name: _gain(said) * worth[name] for name, said in decisions.items() if said.action == "retrain"}
    ranked = sorted(asking, key=lambda name: (-asking[name], name))
    kept = dict(decisions)
    for place, name in enumerate(ranked[left:], left + 1):
        why = (
            f"{decisions[name].why}; it is number {place} of {len(ranked)} by what it gains ({figure(asking[name])}), "
            f"and the month's budget has {left} left"
        )
        kept[name] = replace(
            decisions[name], action="wait", why=why, flips=f"{place - left} more in the month's budget"
        )
    return kept


def _gain(said: Decision) -> float:
    return said.score - said.limit if said.saving is None else said.saving - said.limit
