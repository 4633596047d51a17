"""Retrains where the live loss is above what it was when the version was new, by a limit. The cost of a retrain plays no part."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.policy.retraining.base import Decision, Known
from pipeline.policy.retraining.figures import figure
from pipeline.policy.retraining.spell import spell_of


@dataclass(frozen=True)
class Metric:
    """`rise` is the share of its size by which the mean loss of the last `recent` windows may be above that of the version's own `first` ones."""

    rise: float = 0.1
    recent: int = 3
    first: int = 3
    name: str = "metric"

    def decide(self, known: Known) -> Decision:
        losses = spell_of(known).losses
        if len(losses) < self.first + self.recent:
            why = (
                f"{known.called(known.live)} has {len(losses)} labelled windows, {self.first + self.recent} are needed"
            )
            return Decision(
                "wait", why, f"{self.first + self.recent - len(losses)} more labelled windows", 0.0, self.rise
            )
        new, now = float(losses[: self.first].mean()), float(losses[-self.recent :].mean())
        # Money that decisions earn is a loss below zero, of which a smaller size is more; and none of 0 is a share.
        size, more = abs(new), now - new
        score, limit = (more / size, self.rise) if size else (more, 0.0)
        told = f"{100 * score:+.1f} %, the limit is {100 * limit:+.1f} %" if size else "the limit is any loss above it"
        why = (
            f"{known.called(known.live)} lost {figure(now)} a row in its last {self.recent} labelled windows and {figure(new)} when it was new: "
            f"{told}"
        )
        turn = f"a loss of {figure(new + self.rise * size)}"
        if more > 0 and score >= limit:
            return Decision("retrain", why, f"{turn} or less", score, limit)
        return Decision("wait", why, f"{turn} or more", score, limit)
