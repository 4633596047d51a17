"""The policies that a backtest replays."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.policy.retraining.base import Decision, History, Known, Policy
from pipeline.policy.retraining.replay import replay

NEVER, ALWAYS, TUNED = "never", "always", "tuned schedule"


@dataclass(frozen=True)
class Every:
    """Retrains each time the live version is so many windows old; None for never."""

    name: str
    windows: int | None

    def decide(self, known: Known) -> Decision:
        limit = float("inf") if self.windows is None else self.windows
        if known.age >= limit:
            return Decision(
                "retrain", f"the live version is {known.age} windows old", "a longer interval", known.age, limit
            )
        why = f"the live version is {known.age} windows old, and the schedule says {limit:g}"
        return Decision("wait", why, "a shorter interval", known.age, limit)


def tuned(before: History, cost: float) -> Every:
    """The schedule that was cheapest on `before`; the rarer one of equals."""
    schedules = [Every(TUNED, None), *(Every(TUNED, windows) for windows in range(before.windows - 1, 0, -1))]
    return min(schedules, key=lambda schedule: replay(before, schedule, cost).total)


def policies(before: History, cost: float) -> list[Policy]:
    """Those to replay on what comes after `before`, from which each takes its numbers; a retrain comes to `cost`."""
    return [Every(NEVER, None), Every(ALWAYS, 1), tuned(before, cost)]
