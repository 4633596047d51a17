"""Retrains by the calendar. Right where the age tells all, and the yardstick of every cleverer rule."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.policy.retraining.base import Decision, Known


@dataclass(frozen=True)
class Schedule:
    """Retrains where the last retrain is `every` windows ago; never where `every` is None."""

    every: int | None

    @property
    def name(self) -> str:
        return {None: "never", 1: "always"}.get(self.every, f"every {self.every} windows")

    def decide(self, known: Known) -> Decision:
        if self.every is None:
            return Decision("wait", "the policy never retrains", "another policy", 0.0, float("inf"))
        age = known.now - int(known.born.max())
        said = f"the last retrain is {age} windows ago, the schedule is every {self.every}"
        if age >= self.every:
            return Decision("retrain", said, f"a schedule of {age + 1} windows or more", age, self.every)
        return Decision("wait", said, f"{self.every - age} windows more", age, self.every)


ALWAYS, NEVER = Schedule(1), Schedule(None)
