"""Whether a target counts things: then it is learnt with a Poisson loss, whose answer is the mean.

The mean error (mae) fits counts badly. Most are 0 or 1, so it prefers the median, and no model beats that by much.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise

from pipeline.init.facts import Facts
from pipeline.init.request import Request

METRIC = "poisson_deviance"
OPTIONS = {"loss": "poisson"}
METRIC_WHY = "with loss: poisson, which learns the mean of a count; mae would prefer the median"
NAMES_OF_COUNTS = re.compile(
    r"(^|[_ -])(n|nb|num|number|count|counts|cnt|qty|quantity)($|[_ -])|(?<=[a-z])Count$", re.I
)
# Fewer different values are rather classes, and more are rather amounts.
FEWEST_VALUES, MOST_VALUES = 6, 50
# Of the steps to the next larger count this share may go up: the largest ones are rare, and their order is chance.
UPWARDS = 0.2
# The largest count has at most this share of the rows of the most frequent one.
RARE = 0.25


def may_count(target: Facts) -> bool:
    """Whether the values may be counts: whole, from 0, some of them."""
    whole = target.whole == target.numbers and target.low is not None and target.low >= 0
    return whole and FEWEST_VALUES <= target.different <= MOST_VALUES


def why_counts(target: Facts, rows_of: Mapping[float, int]) -> str | None:
    """Why a target that may count does, by its name or by the rows of each value; None if it does not."""
    if NAMES_OF_COUNTS.search(target.name):
        return f"{target.name} is named as a count"
    values = sorted(rows_of)
    places = range(len(values))
    most = max(places, key=lambda place: rows_of[values[place]])
    after = [rows_of[value] for value in values[most:]]
    # Codes of classes are in no such order, or are all as frequent.
    upwards = sum(later > earlier for earlier, later in pairwise(after))
    falls = upwards <= UPWARDS * (len(after) - 1) and after[-1] <= RARE * after[0]
    rises = all(rows_of[values[place]] < rows_of[values[place + 1]] for place in range(most))
    if values[0] != 0 or most > len(values) / 3 or not (falls and rises):
        return None
    return f"{target.name} has {len(values)} different whole numbers from 0, and larger ones are rarer, as counts are"


def by_poisson(request: Request) -> bool:
    """Whether the metric that is asked for, if any, is of a mean, as the loss is."""
    return request.metric in (None, METRIC)
