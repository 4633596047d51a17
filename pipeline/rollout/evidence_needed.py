"""Says before a step begins which evidence it will need, and how long that takes at today's traffic.

So nobody waits `hold_s` to learn that a model with few requests could not have proven anything.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property

from pipeline.ledger.rollout_events import EvidenceNeeded
from pipeline.policy.needed import Comparison, Traffic, Usual, span, step_needs
from pipeline.rollout import logged_requests
from pipeline.rollout.answer_counts import served, total
from pipeline.rollout.context import RolloutContext
from pipeline.rollout.replay import ReplayedLog
from pipeline.rollout.routing.route import RoutedSlot
from pipeline.rollout.routing.traefik import service_name
from pipeline.rollout.step_watch import SHADOW, Step
from pipeline.settings.rollout import Rollout

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvidenceNotice:
    """Announces the steps of one rollout. Traffic and the champion's usual figures are read once."""

    context: RolloutContext
    model: str
    champion: RoutedSlot | None
    strategy: str
    settings: Rollout

    def announce(self, step: Step, log: ReplayedLog | None = None) -> None:
        """Logs what the step needs, and records it for the timeline. What cannot be read is said, and holds up no rollout.

        A replay needs no traffic: `log` has its requests.
        """
        traffic, known = self._read
        settings, off = self.settings, self.settings.limits.off
        needs, takes_s = None, None
        if log is not None:
            needs = step_needs(
                settings.limits, Comparison(None, log.rows / len(log.requests)), Usual(slow=self._usual.slow)
            )
            late = needs.more_than(len(log.requests), settings.limits)
            text = f"needs {needs}; it gets {log}" + (self._replay_consequence(late) if late else "")
        elif step.shared:
            needs = step_needs(settings.limits, *self._comparison(step))
            takes_s = needs.takes_s(traffic) if traffic is not None else None
            text = f"needs {needs}; {known}" + (f" make that {span(takes_s)}" if takes_s is not None else "")
            late = needs.late(settings.limits, traffic, settings.hold_s) if traffic is not None else []
            text += self._consequence(step, late) if late else ""
        else:
            come = (
                f" make {traffic.a_second * settings.bake_s:,.0f} in that time" if traffic and traffic.requests else ""
            )
            text = (
                f"is watched for {span(settings.bake_s)} (rollout.bake_s); {known}{come}; it needs no proof to go live"
            )
        event = EvidenceNeeded(
            version=step.candidate.version,
            step=str(step),
            text=text + (f"; off: {', '.join(off)}" if off else ""),
            figures=dict(needs.figures) if needs is not None else {},
            off=list(off),
            requests=needs.requests if needs is not None else None,
            takes_s=round(takes_s, 1) if takes_s is not None else None,
            allowed_s=settings.hold_s if step.shared else settings.bake_s,
            traffic_requests=traffic.requests if traffic is not None else None,
            traffic_hours=round(traffic.hours, 3) if traffic is not None else None,
        )
        logger.info("%s %s", self.model, event.sentence())
        self.context.record(event, self.model)

    def _comparison(self, step: Step) -> tuple[Comparison, Usual, float]:
        traffic, _ = self._read
        rows = traffic.rows / traffic.requests if traffic is not None and traffic.requests else 1.0
        if step.percent == SHADOW:
            # Only the rows that the shadow got are compared.
            share = self.settings.shadow_percent / 100
            return Comparison(1 / share, rows), self._usual, share
        share = step.percent / 100
        return Comparison((1 - share) / share, rows / share), self._usual, share

    def _consequence(self, step: Step, late: list[str]) -> str:
        """What will happen to a step for which today's traffic is too little, and the keys that change it."""
        end = "says hold" if step.percent == SHADOW else "gives all traffic back to the champion"
        keys = ["a longer rollout.hold_s", f"a larger rollout.{self.strategy}_percent", *_limits(late)]
        held = span(self.settings.hold_s)
        return (
            f", so it will probably end after {held} without a proof, and {end}. What helps: {', '.join(keys)}, or strategy "
            "replay, which takes logged requests"
        )

    def _replay_consequence(self, late: list[str]) -> str:
        keys = ["a longer rollout.replay_days", "a larger rollout.replay_rows", *_limits(late)]
        return f", so it will probably end without a proof, and the champion keeps all traffic. What helps: {', '.join(keys)}"

    @cached_property
    def _read(self) -> tuple[Traffic | None, str]:
        """(today's traffic, in words)."""
        try:
            traffic = logged_requests.traffic(self.context, self.model)
        except (OSError, ValueError, KeyError) as error:
            return None, f"today's traffic is not known ({error})"
        return traffic, str(traffic)

    @cached_property
    def _usual(self) -> Usual:
        """The champion's shares since its slot was started."""
        if self.champion is None:
            return Usual()
        name, limits = service_name(self.model, self.champion), self.settings.limits
        counted = served(self.context.router, {name: self.champion.address}, limits.p99_ms)
        return Usual.of(*total(counted[name]).counts, limits.min_requests) if counted else Usual()


def _limits(late: list[str]) -> list[str]:
    """What to change in `rollout.limits` so that these keys take fewer requests."""
    figures = [key for key in late if key != "min_requests"]
    keys = [f"wider rollout.limits, or null for off ({', '.join(figures)})"] if figures else []
    return [*keys, "a smaller rollout.limits.min_requests"] if len(figures) < len(late) else keys
