"""The events of a rollout: one before and one after each side effect, and the judgements of a version on its way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from pipeline.ledger.events import NULL, Event

# In the reason of a rollout whose version takes other columns than the live one, at the word of who asked for it.
SCHEMA_ACCEPTED = "schema change accepted"


class RolloutEvent(Event):
    """`rollout` is the fencing token of the lease that was held; None when the event needs no lease."""

    rollout: int | None = None


class Opening(RolloutEvent):
    """A rollout or a rollback begins. `version` is to be live at its end; `asked_by` is the person who asked, if any.

    `digest` is the package's.
    """

    version: str
    slot: str = ""
    reason: str = ""
    asked_by: str | None = None
    digest: str | None = None

    @property
    def why(self) -> str:
        """The reason, and who asked."""
        return ", ".join(filter(None, [self.reason, self.asked_by and f"asked by {self.asked_by}"]))

    @property
    def because(self) -> str:
        return f": {self.why}" if self.why else ""

    @property
    def leaving(self) -> tuple[str, str]:
        """(version, digest) of what a rollback at this moment has to leave; '' for a digest that is not known."""
        return self.version, self.digest or ""


class Move(RolloutEvent):
    """A version is live from now on, with all traffic. Its two kinds are the record of what was live at which time.

    `digest` is the package's: a number of the registry can come to name another one.
    """

    version: str
    slot: str = ""
    digest: str | None = None
    engine: str | None = None
    reason: str | None = None


class RolloutStarted(Opening, kind="rollout_started"):
    """`before` is live when it begins; `warm` is the predecessor that makes room for the candidate, with its package's digest."""

    strategy: str = "all-at-once"
    before: str | None = field(default=None, metadata=NULL)
    warm: str | None = None
    warm_digest: str | None = None

    def sentence(self) -> str:
        return f"rollout of version {self.version} begins, {self.strategy}{self.because}"


class RollbackStarted(Opening, kind="rollback_started"):
    """Version `left`, with the package `left_digest`, is to give all traffic back to `version`."""

    left: str = ""
    left_digest: str | None = None

    @property
    def leaving(self) -> tuple[str, str]:
        return self.left, self.left_digest or ""

    def sentence(self) -> str:
        return f"rollback from version {self.left} to version {self.version} begins{self.because}"


class UndeployStarted(Opening, kind="undeploy_started"):
    """`version` is to leave the router; '' when only slots are left of the model."""

    def sentence(self) -> str:
        return f"undeploy of {f'version {self.version}' if self.version else 'what is left'} begins{self.because}"


class SlotStarting(RolloutEvent, kind="slot_starting"):
    """`why` says why the slot is on this engine."""

    version: str
    slot: str
    engine: str = ""
    why: str = ""


class SlotStarted(RolloutEvent, kind="slot_started"):
    """The version's server was started and is not proven yet. `address` is its URL."""

    version: str
    slot: str
    address: str = ""


class SlotReady(RolloutEvent, kind="slot_ready"):
    """The slot gave the answers that evaluation recorded, to each of `golden` requests.

    `settings` is the `rollout` section of params.yaml with which it was started; None in an older body.
    """

    version: str
    slot: str
    address: str = ""
    golden: int = 0
    ready_s: float = 0.0
    settings: Mapping[str, Any] | None = None

    def sentence(self) -> str:
        return f"version {self.version} ready in {self.slot} after {self.golden} golden requests"


class SettingsApplied(RolloutEvent, kind="settings_applied"):
    """Every slot of the route runs with `settings`, a `rollout` section of params.yaml. `version` is live in `slot`."""

    version: str
    slot: str
    settings: Mapping[str, Any] | None = None

    def sentence(self) -> str:
        return f"version {self.version} runs in {self.slot} with the changed settings of rollout.serving"


class SlotRevived(RolloutEvent, kind="slot_revived"):
    """The server of a slot that has traffic was gone; it was started again and proven before it got requests."""

    version: str
    slot: str
    engine: str = ""


class SlotDied(RolloutEvent, kind="slot_died"):
    """A slot's server ended though nobody ended it, `times` times in a row so far; `output` is what it printed last."""

    version: str
    slot: str
    engine: str = ""
    cause: str = ""
    output: str = ""
    times: int = 1

    def sentence(self) -> str:
        again = f" {self.times} times in a row" if self.times > 1 else ""
        return f"version {self.version} died in {self.slot}{again}: {self.cause}; last output: {self.output or 'none'}"


class SlotEnding(RolloutEvent, kind="slot_ending"):
    """Written before a slot gets no new requests and ends once those that it has are answered."""

    version: str
    slot: str
    engine: str | None = None


class SlotEnded(RolloutEvent, kind="slot_ended"):
    """`cut_off` requests got no answer; None when the slot did not report a number."""

    version: str
    slot: str
    cut_off: int | None = field(default=None, metadata=NULL)
    engine: str | None = None

    def sentence(self) -> str:
        lost = "an unknown number of" if self.cut_off is None else self.cut_off
        return f"version {self.version} ended in {self.slot}, {lost} requests cut off"


class RouteMoving(RolloutEvent, kind="route_moving"):
    """Version `to` is to get `percent` of the traffic, or of its copies with `mirror`; `previous` is its failover."""

    to: str
    percent: int = 100
    mirror: bool = False
    live: str | None = None
    previous: str | None = field(default=None, metadata=NULL)


class RouteMoved(RolloutEvent, kind="route_moved"):
    """The route file names it, and the router has read it, `switch_s` seconds after the move began."""

    to: str
    percent: int = 100
    mirror: bool = False
    switch_s: float = 0.0

    def sentence(self) -> str:
        share = f"copies of {self.percent} %" if self.mirror else f"{self.percent} %"
        return f"version {self.to} gets {share}, moved in {self.switch_s:.2f} s"


class RouteRemoving(RolloutEvent, kind="route_removing"):
    """Written before the model's route file is removed."""


class RouteRemoved(RolloutEvent, kind="route_removed"):
    """The router has no route of the model."""


class EvidenceNeeded(RolloutEvent, kind="evidence_needed"):
    """What a step will need, said before it begins: the candidate's requests by figure (None: no number is enough), and in all.

    They take `takes_s` at today's traffic, None when that is none or not known; `off` are limits that are null. `step` and `text`
    are for a person.
    """

    version: str
    step: str = ""
    text: str = ""
    figures: Mapping[str, int | None] = field(default_factory=dict)
    off: Sequence[str] = ()
    requests: int | None = field(default=None, metadata=NULL)
    takes_s: float | None = field(default=None, metadata=NULL)
    allowed_s: float = 0.0
    traffic_requests: int | None = field(default=None, metadata=NULL)
    traffic_hours: float | None = field(default=None, metadata=NULL)

    def sentence(self) -> str:
        return f"version {self.version} {self.step} {self.text}"


class RolloutHolding(RolloutEvent, kind="rollout_holding"):
    """The figures at `percent` do not say yet whether it may go on: traffic stays as it is. Told again while that lasts."""

    version: str
    percent: int
    reason: str

    def sentence(self) -> str:
        return f"version {self.version} holds at its step: {self.reason}"


class Judged(RolloutEvent):
    """A version was watched; `looks` are of pipeline.policy.canary.Judgement, as dicts."""

    version: str
    verdict: str = ""
    reason: str = ""
    looks: Sequence[Mapping[str, Any]] = ()


class StepBaked(Judged, kind="step_baked"):
    """The looks at `percent` of the traffic came to an end, with the verdict to go on."""

    percent: int = 0

    def sentence(self) -> str:
        return f"version {self.version} proved itself at {self.percent} %: {self.reason}"


class Replayed(Judged, kind="replayed"):
    """The version answered `requests` logged requests; `left_out` are rows by the reason for which they were not sent."""

    requests: int = 0
    rows: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)

    def sentence(self) -> str:
        left = "".join(f"; {count:,} rows left out: they {why}" for why, count in self.left_out.items())
        return f"version {self.version} proved itself on {self.requests:,} logged requests: {self.reason}{left}"


class Baked(Judged, kind="baked"):
    """The looks with all traffic came to an end, with the verdict to stay."""

    slot: str = ""


class ShadowEnded(Judged, kind="shadow_ended"):
    """A version answered copies of requests and went away again; `verdict` says how it did beside `champion`, and nothing moved."""

    slot: str = ""
    engine: str = ""
    engine_reason: str = ""
    strategy: str = "shadow"
    champion: str = ""

    def sentence(self) -> str:
        return f"shadow of version {self.version} says {self.verdict}: {self.reason}"


class Promoting(RolloutEvent, kind="promoting"):
    """Written before the registry's alias champion is set."""

    version: str


class Promoted(RolloutEvent, kind="promoted"):
    """The registry's alias champion is on the version."""

    version: str


class Demoting(RolloutEvent, kind="demoting"):
    """Written before the registry's alias champion is removed."""


class Demoted(RolloutEvent, kind="demoted"):
    """No version of the model has the registry's alias champion."""


class PruneFailed(RolloutEvent, kind="prune_failed"):
    """Images of versions that are neither live nor warm could not be removed after a rollout; the rollout stands."""

    error: str


class RolloutEnded(Move, kind="rollout_ended"):
    """`to_traffic_s` is the time from the rollout's start until all traffic had moved.

    `already_live` when nothing had to move; `completed_later` when recovery finished a rollout that was cut off.
    """

    switch_s: float = 0.0
    engine_reason: str | None = None
    strategy: str | None = None
    previous: str | None = field(default=None, metadata=NULL)
    ready_s: float | None = None
    to_traffic_s: float | None = None
    already_live: bool | None = None
    completed_later: bool | None = None

    def body(self) -> dict[str, Any]:
        """Without `previous` when nothing moved: the move before this one names the predecessor."""
        body = super().body()
        if self.already_live and self.previous is None:
            del body["previous"]
        return body

    def sentence(self) -> str:
        return f"version {self.version} live in {self.slot}, switched in {self.switch_s:.2f} s"


class RolledBack(Move, kind="rolled_back"):
    """`version` is live again in place of `left`; `warm` when its slot was still running. `left_digest` is the left package's, `asked_by` the
    person who asked, if any."""

    left: str = ""
    asked_by: str | None = None
    left_digest: str | None = None
    warm: bool | None = None
    switch_s: float | None = None
    completed_later: bool | None = None

    def sentence(self) -> str:
        return f"back to version {self.version} in {self.slot}{f': {self.reason}' if self.reason else ''}"


class RolloutFailed(RolloutEvent, kind="rollout_failed"):
    """`rolled_back` says that the version had all traffic by then, so that an event `rolled_back` comes before this one."""

    version: str
    error: str
    slot: str | None = field(default=None, metadata=NULL)
    rolled_back: bool | None = None

    def sentence(self) -> str:
        return f"version {self.version} did not go live: {self.error}"


class Undeployed(RolloutEvent, kind="undeployed"):
    """Nothing of the model is live from now on. `version` was live, and `slots` have ended."""

    version: str
    slots: Sequence[str] = ()
    reason: str = ""

    def sentence(self) -> str:
        what = f"version {self.version}" if self.version else "what was left"
        return f"{what} is off the router, and its slots have ended: {self.reason}"


class AbortAsked(RolloutEvent, kind="abort_asked"):
    """A rollout that goes on is called back: that of `version`, and any where an older body names none."""

    reason: str
    asked_by: str | None = None
    version: str | None = None

    def sentence(self) -> str:
        return f"called back{f' by {self.asked_by}' if self.asked_by else ''}: {self.reason}"


OPENINGS = (RolloutStarted, RollbackStarted, UndeployStarted)
MOVES = (RolloutEnded, RolledBack)
CLOSINGS = (*MOVES, RolloutFailed, ShadowEnded, Undeployed)
