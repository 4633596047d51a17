"""A rule with the question that a look asks of it before a retrain: has anything moved since the last one? So a backtest replays what looks do."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from pipeline.policy.retraining.base import Decision, Known, Policy
from pipeline.policy.retraining.cured import not_cured
from pipeline.policy.retraining.staleness import Staleness
from pipeline.settings.policy import Policy as Settings


@dataclass(frozen=True)
class Spans:
    """In days: a window, how much past a version learns from, and after how long a retrain is due where nothing is known."""

    window: float = 7.0
    learns: float = math.inf
    due_after: float = Settings().due_after_days


@dataclass(frozen=True)
class Held:
    """The `rule`, which waits where `cured.not_cured` finds nothing that speaks for another retrain. `prior` is the curve of the backtest."""

    rule: Policy
    prior: Staleness
    spans: Spans = Spans()

    @property
    def name(self) -> str:
        return self.rule.name

    def decide(self, known: Known) -> Decision:
        said, of = self.rule.decide(known), self.spans
        if said.action != "retrain":
            return said
        why = not_cured(known, self.prior, of.window, of.due_after, learns_days=of.learns)
        return replace(said, action="wait", why=why) if why else said
