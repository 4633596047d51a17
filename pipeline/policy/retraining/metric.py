"""Retrains where the live loss is above what it was when the version was new, by a limit. The cost of a retrain plays no part."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.policy.retraining.base import Decision, Known
from pipeline.policy.retraining.figures import figure
from pipeline.policy.retraining.spell import spell_of


@dataclass(frozen=True)
class Metric:
    """`rise` is the share by which the mean loss of the last `recent` windows may be above that of the version's own `first` ones."""

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
        new, now = losses[: self.first].mean(), losses[-self.recent :].mean()
        rise = float(now / new - 1)
        why = (
            f"{known.called(known.live)} lost {figure(now)} a row in its last {self.recent} labelled windows and {figure(new)} when it was new: "
            f"{100 * rise:+.1f} %, the limit is {100 * self.rise:+.1f} %"
        )
        turn = f"a loss of {figure(new * (1 + self.rise))}"
        if rise >= self.rise:
            return Decision("retrain", why, f"{turn} or less", rise, self.rise)
        return Decision("wait", why, f"{turn} or more", rise, self.rise)
