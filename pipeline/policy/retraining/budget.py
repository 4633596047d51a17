"""The rule `value` where many models share a budget of retrains: at most so many in 30 days, spent where it pays most.

A model that wants a retrain gets it when fewer models expect more beyond the cost than retrains are left. The others are known by the newest
of their own looks, so no model waits for another one's look, and one that is broken or gone claims nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.policy.retraining.base import Decision, Known, Policy


@dataclass(frozen=True)
class Claim:
    """Another model wants a retrain too, which is expected to save `net` beyond its cost, in money."""

    model: str
    net: float


@dataclass(frozen=True)
class Ceiling:
    """At most `most` retrains in 30 days, under the settings key `key`: `spent` of them are, and `claims` are those of other models."""

    key: str
    most: int
    spent: int
    claims: tuple[Claim, ...] = ()

    @property
    def left(self) -> int:
        return max(0, self.most - self.spent)


@dataclass(frozen=True)
class Place:
    """The model is number `rank` of `of` that want a retrain under the ceiling. `last` is the claim that gets the last one left, without
    this model."""

    ceiling: Ceiling
    rank: int
    of: int
    last: Claim | None

    @property
    def within(self) -> bool:
        return self.rank <= self.ceiling.left

    def said(self, currency: str) -> str:
        c = self.ceiling
        line = f"number {self.rank} of {self.of} by what a retrain saves beyond its cost, and {c.left} of {c.most} are left in 30 days ({c.key})"
        return (
            line
            if self.within or self.last is None
            else f"{line}; {self.last.model} expects {self.last.net:,.2f} {currency}"
        )

    def flips(self, currency: str) -> str:
        if not self.ceiling.left:
            return f"a retrain of the last 30 days that has become older, or a higher {self.ceiling.key}"
        needed = self.last.net if self.last is not None else 0.0
        return f"more than {needed:,.2f} {currency} beyond its cost, or a higher {self.ceiling.key}"


def place(model: str, net: float, ceiling: Ceiling) -> Place:
    """The model's place under one ceiling; of equals the first by name comes first."""
    before = sorted((c for c in ceiling.claims if (-c.net, c.model) < (-net, model)), key=lambda c: (-c.net, c.model))
    last = before[ceiling.left - 1] if 0 < ceiling.left <= len(before) else None
    return Place(ceiling, len(before) + 1, len(ceiling.claims) + 1, last)


@dataclass(frozen=True)
class Budget:
    """`value` within all `ceilings`. `unit` is what a unit of loss costs on the rows of a usual window, in `currency`."""

    model: str
    value: Policy
    ceilings: Sequence[Ceiling]
    unit: float
    currency: str
    name: str = "budget"

    def net(self, said: Decision) -> float:
        """What the retrain is expected to save beyond its cost, in money; what has been lost beyond it where no saving is told."""
        gain = said.saving if said.saving is not None else said.score
        return (gain - said.limit) * self.unit

    def places(self, said: Decision) -> list[Place]:
        return [place(self.model, self.net(said), ceiling) for ceiling in self.ceilings]

    def decide(self, known: Known) -> Decision:
        said = self.value.decide(known)
        return self.within(said) if said.action == "retrain" else said

    def within(self, said: Decision) -> Decision:
        """The retrain that `value` asks for, or to wait where the budget is spent better."""
        places = self.places(said)
        if not places:
            return replace(said, why=f"{said.why}; no ceiling is set (budget.retrains_a_month)")
        beyond = f"{self.net(said):,.2f} {self.currency} beyond its cost"
        why = f"{said.why}; {beyond}: {'; '.join(each.said(self.currency) for each in places)}"
        held = [each for each in places if not each.within]
        if not held:
            flips = " or ".join(
                [
                    said.flips,
                    *(
                        f"{p.ceiling.left} models that expect more than {self.net(said):,.2f} {self.currency}"
                        for p in places
                    ),
                ]
            )
            return replace(said, why=why, flips=flips)
        return replace(said, action="wait", why=why, flips=" and ".join(each.flips(self.currency) for each in held))
