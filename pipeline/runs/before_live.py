"""A look as of before the live version was trained: it says nothing of that version, but what was decided or live then."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pipeline.ledger.receipt_events import RetrainDecided
from pipeline.ledger.store import Ledger
from pipeline.ledger.timeline import LiveVersion, live_at
from pipeline.runs.window_losses import kept_versions
from pipeline.runs.window_scores import KeptVersion

# What would give such a look another answer.
LATER = "a later look"


def decided_then(ledger: Ledger, name: str, live: LiveVersion, as_of: datetime) -> RetrainDecided | None:
    """The receipt of the look as of then where what it decided, or what came after it, is live now: that look is over, and is no other one when
    it is repeated. None where it was not taken, or is of what is live."""
    looks = [e.event for e in ledger.events(RetrainDecided, model=name) if e.event.as_of == as_of.isoformat()]
    then = next((each for each in reversed(looks) if each.digest != live.digest and each.flips != LATER), None)
    if then is None or (then.decision == "go back" and then.to_digest == live.digest):
        return then
    trained = _trained(kept_versions(ledger, name, live), live)
    return then if trained is not None and trained >= as_of else None


def over(ledger: Ledger, name: str, receipt: RetrainDecided) -> str:
    """That another version is live than the receipt is of, so that nobody is to act on it; '' where it is of what is live."""
    live = live_at(ledger, name)
    if live is None or (live.version, live.digest) == (receipt.champion, receipt.digest):
        return ""
    return f"so it was decided of version {receipt.champion} then, and version {live.version} is live since"


def said(ledger: Ledger, name: str, live: LiveVersion, as_of: datetime) -> str:
    """Why a look as of then cannot decide on the live version; '' where it can, or where nobody knows as of when that was trained."""
    kept = kept_versions(ledger, name, live)
    trained = _trained(kept, live)
    if trained is None or trained <= as_of:
        return ""
    before = [each for each in kept if each.as_of <= as_of]
    was = (
        f"version {before[-1].package.version}, trained as of {before[-1].as_of:%Y-%m-%d}, was the newest then"
        if before
        else "no version was live then"
    )
    return f"version {live.version}, which is live now, was trained as of {trained:%Y-%m-%d}, after this look; {was}"


def _trained(kept: Sequence[KeptVersion], live: LiveVersion) -> datetime | None:
    return next((each.as_of for each in kept if each.package == live.package), None)
