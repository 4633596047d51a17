"""A look as the monitor has it: the features one by one, how the numbers go together, and faults that can be named, by one budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import pandas as pd

from benchmarks.drift_faults import CATEGORICAL, NUMERIC
from pipeline.monitoring import drift_exchanged, drift_together, exchanged
from pipeline.monitoring.domain_classifier import Block, DomainClassifier, block_of
from pipeline.monitoring.drift import DriftVerdict, Window, compare
from pipeline.monitoring.drift_exchanged import NamedFaults
from pipeline.monitoring.profiles.in_memory import profile_of
from pipeline.monitoring.profiles.reference import reference_of
from pipeline.settings.models import DriftLimits

REFERENCE_WEEKS, LOOKS = 26, 91
SAMPLE = 10_000


class Look:
    """Looks at weeks in an order of their own: the first REFERENCE_WEEKS are learnt from, `others` are not."""

    def __init__(self, weeks: Sequence[pd.DataFrame], order: int, by: Sequence[str] = ()) -> None:
        permuted = [weeks[number] for number in np.random.default_rng(order).permutation(len(weeks))]
        learnt, self.others = permuted[:REFERENCE_WEEKS], permuted[REFERENCE_WEEKS:]
        start = pd.Timestamp("2013-01-07", tz="UTC")
        times = [start + pd.Timedelta(weeks=i) + (week["at"] - week["at"].min()) for i, week in enumerate(learnt)]
        rows = pd.concat(learnt, ignore_index=True).assign(learnt=pd.concat(times, ignore_index=True))
        self.reference = reference_of(rows, NUMERIC, CATEGORICAL, rows["learnt"], by)
        sample = rows.sample(SAMPLE, random_state=1)
        whole = block_of(sample, sample["learnt"], NUMERIC)
        self.classifier = DomainClassifier(whole, NUMERIC)
        self.null = self.classifier.null()
        weeks = Block(whole.values, (whole.days - whole.days.max()) // exchanged.WEEK)
        self.faults = NamedFaults.of(weeks, NUMERIC, drift_exchanged.texts_of(sample, CATEGORICAL))

    def at(self, rows: pd.DataFrame) -> DriftVerdict:
        """At a window of a week."""
        limits = DriftLimits()
        window = Window(profile_of(rows, self.reference.layout), 7)
        verdict = compare(self.reference, window, limits, 2 * LOOKS)
        verdict = drift_exchanged.with_named(verdict, self.faults.judged(rows), limits, {})
        block = block_of(rows, rows["at"], NUMERIC)
        found = self.classifier.judged(block, self.null, 1 / LOOKS / 2)
        return drift_together.with_together(verdict, found, limits)


def most_alarms(looks: int) -> int:
    """So many alarms come in one of a hundred such runs, if one look in 91 alarms."""
    share = 1 / LOOKS
    chances = (math.comb(looks, k) * share**k * (1 - share) ** (looks - k) for k in range(looks + 1))
    return next(k for k, so_far in enumerate(accumulate(chances)) if so_far >= 0.99)
