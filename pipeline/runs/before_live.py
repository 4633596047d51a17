"""A look as of before the live version was trained: it says nothing of that version, but what was live then."""

from __future__ import annotations

from datetime import datetime

from pipeline.ledger.store import Ledger
from pipeline.ledger.timeline import LiveVersion
from pipeline.runs.window_losses import kept_versions


def said(ledger: Ledger, name: str, live: LiveVersion, as_of: datetime) -> str:
    """Why a look as of then cannot decide on the live version; '' where it can, or where nobody knows as of when that was trained."""
    kept = kept_versions(ledger, name, live)
    trained = next((each.as_of for each in kept if each.package == live.package), None)
    if trained is None or trained <= as_of:
        return ""
    before = [each for each in kept if each.as_of <= as_of]
    was = (
        f"version {before[-1].package.version}, trained as of {before[-1].as_of:%Y-%m-%d}, was the newest then"
        if before
        else "no version was live then"
    )
    return f"version {live.version}, which is live now, was trained as of {trained:%Y-%m-%d}, after this look; {was}"
