"""The events of a version's approval, and those that show what a model's rules were when it was given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from pipeline.ledger.events import Event

SHOWN = 12
# How a decision came in. What was asked in `approval_hours` without an answer was rejected by the time.
AIRFLOW, COMMAND, TIME = "airflow", "command", "time"


def short_digest(value: str) -> str:
    """As much of a digest as a line shows; "none" for ''."""
    head, colon, digest = value.rpartition(":")
    return f"{head}{colon}{digest[:SHOWN]}" if value else "none"


class OfVersion(Event):
    """`digest` is that of all that `parts` and `files` name: the package's files by their sha256, data version, code revision, gate report
    and image. See pipeline.rollout.approval.Evidence."""

    version: str
    digest: str
    parts: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


class ApprovalAsked(OfVersion, kind="approval_asked"):
    """`asked_by` may not approve where users are known; `until` is UTC, ISO 8601."""

    until: str = ""
    asked_by: str | None = None
    through: str = COMMAND

    def sentence(self) -> str:
        who = f", asked by {self.asked_by}" if self.asked_by else ""
        return f"version {self.version} waits for approval until {self.until[:16].replace('T', ' ')}{who}"


class Approved(OfVersion, kind="approved"):
    """The person `by` approved exactly what `digest` names. `note` says where the rule about who may approve could not hold."""

    by: str
    through: str = COMMAND
    reason: str = ""
    note: str = ""

    def sentence(self) -> str:
        why = f": {self.reason}" if self.reason else ""
        return f"version {self.version} ({self.digest[:12]}) approved by {self.by}{why}"


class Rejected(Event, kind="rejected"):
    """`by` decided against the version, or took an approval back; `through` is where, like the command line or Airflow."""

    version: str
    by: str = ""
    through: str = COMMAND
    reason: str = ""

    def sentence(self) -> str:
        who = f" by {self.by}" if self.by else ""
        return f"version {self.version} rejected{who}: {self.reason or 'no reason given'}"


class DeployRefused(Event, kind="deploy_refused"):
    """The deployer did not bring the version live, because it was not approved or `changed` since; each line names a part."""

    version: str
    why: str
    changed: Sequence[str] = ()
    asked_by: str | None = None

    def sentence(self) -> str:
        return f"version {self.version} was not deployed: {self.why}"


class OtherImage(Event, kind="other_image"):
    """A slot was started again by another serving image than the `approved` one; `why` says what kept it from that one. Both are digests.

    What is live goes on so in any case. A predecessor that is `warm` so gets no traffic by a rollback.
    """

    version: str
    slot: str
    approved: str
    image: str
    why: str
    warm: bool | None = None

    def sentence(self) -> str:
        served = f"image {short_digest(self.image)}, and {short_digest(self.approved)} was approved"
        return f"version {self.version}, which is {'warm' if self.warm else 'live'}, runs in {self.slot} by {served}: {self.why}"


class SettingsChanged(Event, kind="settings_changed"):
    """The model's block is another than when it was seen last: `settings` is all of it, flat, `changed` are [before, after] by key.

    `author` is who last committed params.yaml; '' while it is not committed. `asked_by` is who used the block first.
    """

    digest: str
    settings: Mapping[str, Any]
    changed: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    code_revision: str = ""
    author: str = ""
    asked_by: str | None = None

    def what_changed(self) -> str:
        """The sentence of the audit. The timeline leaves it out: it has what was done with the block."""
        if not self.changed:
            return f"settings {self.digest[:12]} seen for the first time"
        each = [f"{key} {_shown(before)} -> {_shown(after)}" for key, (before, after) in self.changed.items()]
        more = f" and {len(each) - MOST_SHOWN} more" if len(each) > MOST_SHOWN else ""
        return f"settings changed: {', '.join(each[:MOST_SHOWN])}{more}"


MOST_SHOWN = 3


def _shown(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
