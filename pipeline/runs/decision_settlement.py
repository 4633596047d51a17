"""Did it pay? A decision is settled by the labels that came after it: the version that it brought against the one that it left, on the
same rows, in money.

What a decision to wait was worth nobody can know without training what was not trained: the backtest does that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.context import Context
from pipeline.ledger.events import VersionRegistered
from pipeline.ledger.receipt_events import DecisionSettled, RetrainDecided
from pipeline.ledger.rollout_events import MOVES
from pipeline.ledger.store import Entry
from pipeline.settings.models import time_of

if TYPE_CHECKING:
    from pipeline.policy.economics import Worth
    from pipeline.runs.window_losses import LiveHistory

# So many labelled windows after it settle a decision.
WINDOWS = 4
# The upper end of a two-sided interval of 90 %, by Student's t: the spread of a few windows is itself hardly known.
UPPER = 0.95


@dataclass(frozen=True)
class Gain:
    """What one version lost less than another, in money: the sum over `windows` windows, and its interval."""

    saved: float
    low: float
    high: float
    windows: int


def settle(context: Context, run: str, name: str, history: LiveHistory, worth: Worth) -> list[DecisionSettled]:
    """Settles the decisions for which enough windows have labels now; each once."""
    settled = {entry.event.as_of for entry in context.ledger.events(DecisionSettled, model=name)}
    found = []
    for entry in context.ledger.events(RetrainDecided, model=name):
        decided = entry.event
        if decided.as_of in settled or decided.decision == "wait":
            continue
        if decided.decision == "go back" and not _went_back(context, name, entry):
            continue
        event = _settled(context, name, decided, history, worth)
        if event is not None:
            settled.add(decided.as_of)
            context.ledger.append(event, name, run)
            found.append(event)
    return found


def _settled(
    context: Context, name: str, decided: RetrainDecided, history: LiveHistory, worth: Worth
) -> DecisionSettled | None:
    digests = [each.package.digest for each in history.versions]
    to = decided.to_digest if decided.decision == "go back" else _trained_for(context, name, decided, history)
    if to not in digests or decided.digest not in digests:
        return None
    new, old = digests.index(to), digests.index(decided.digest)
    gain = gain_of(history, new, old, decided, worth)
    if gain is None:
        return None
    return DecisionSettled(
        as_of=decided.as_of,
        decision=decided.decision,
        version=history.versions[new].package.version,
        instead=history.versions[old].package.version,
        windows=gain.windows,
        saved=gain.saved,
        low=gain.low,
        high=gain.high,
        cost=worth.retrain if decided.decision == "retrain" else 0.0,
        currency=worth.currency,
        # What was expected in another currency is not compared: nobody has its rate.
        expected=decided.saving if decided.currency in ("", worth.currency) else None,
        ahead=decided.ahead,
    )


def _went_back(context: Context, name: str, decided: Entry[RetrainDecided]) -> bool:
    """Whether the next rollout brought the version that was chosen, and no later look had chosen it before that: one that nobody followed, as
    a look by hand, saved nothing."""
    to = decided.event.to_digest
    moves = [each for each in context.ledger.events(*MOVES, model=name) if each.seq > decided.seq]
    # To deploy again what is live, as after a change of its settings, is no answer.
    move = next((each for each in moves if each.event.digest != decided.event.digest), None)
    if move is None or move.event.digest != to:
        return False
    looks = context.ledger.events(RetrainDecided, model=name)
    return not any(decided.seq < each.seq < move.seq and each.event.to_digest == to for each in looks)


def _trained_for(context: Context, name: str, decided: RetrainDecided, history: LiveHistory) -> str:
    """The digest of the version that was trained as of the decision and went live; '' while there is none."""
    numbers = {
        entry.event.version
        for entry in context.ledger.events(VersionRegistered, model=name)
        if time_of(entry.event.as_of) == time_of(decided.as_of)
    }
    found = [each.package for each in history.versions if each.package.version in numbers]
    return found[-1].digest if found else ""


def gain_of(history: LiveHistory, new: int, old: int, decided: RetrainDecided, worth: Worth) -> Gain | None:
    """Over the windows from the decision on in which both have a loss; None with fewer than WINDOWS. A window is a block: its rows have
    their weather in common, and the interval is of the windows' gains."""
    import numpy as np

    known = history.known
    since = np.array([start >= time_of(decided.as_of) for start in history.starts], dtype=bool)
    both = since & ~np.isnan(known.losses[new]) & ~np.isnan(known.losses[old])
    windows = int(both.sum())
    if windows < WINDOWS:
        return None
    # It takes an eighth of a second to import, and most looks settle nothing.
    from scipy.special import stdtrit

    gains = (known.losses[old, both] - known.losses[new, both]) * history.labelled[both] * worth.value.value
    width = float(stdtrit(windows - 1, UPPER)) * float(gains.std(ddof=1)) * math.sqrt(windows)
    saved = float(gains.sum())
    return Gain(saved, saved - width, saved + width, windows)
