"""Is the score too good to be true? On rows of later days nobody is perfect, unless something of the target is among the features."""

from __future__ import annotations

from pipeline.gates.base import PackagedModel, Verdict
from pipeline.gates.skill import skill
from pipeline.training import weights
from pipeline.training.tasks import Answers


def verdict(packaged: PackagedModel) -> Verdict | None:
    """None where the held-out rows cannot tell. The observed figure is `skill.skill` of all of them."""
    model, held_out, limit = packaged.model, packaged.held_out, packaged.model.gates.sanity.perfect
    answers = Answers.of(held_out, packaged.package.classes)
    target = held_out[model.training.target].to_numpy()
    reached = skill(target, answers, weights.of(held_out, model.training, "evaluate"))
    if reached != reached:
        return None
    reason = f"{reached:.4f} of the way from a guess to a perfect score on {len(held_out):,} held-out rows, at most {limit:g}"
    if reached > limit:
        reason += ": is a feature known only after the target? (gates.sanity.perfect)"
    return Verdict("perfect_score", reached <= limit, reached, limit, reason)
