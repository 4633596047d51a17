"""Which columns are features, of which kind, and which are none: each of these with why, and the flag that keeps it."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.errors import DataError
from pipeline.init.facts import Facts
from pipeline.init.looks import Looks
from pipeline.init.request import LeftOut, Request
from pipeline.settings.columns import BESIDE_FEATURES, LONGEST_NAME, RESERVED, one_name

# The lists of params.yaml, in its order.
KINDS = ("numeric", "categorical", "datetime", "text")
# A time that spans so many times the rows' own is no clock of theirs, such as a date of birth.
SPANS = 4
# Ages that differ by less of the rows' own span say nothing: the time is the event time once more, or is kept a while before it.
AGES_DIFFER = 0.01
# A column of numbers with more infinite ones costs more rows than it tells.
INFINITE = 0.05


def choose(
    request: Request, facts: Mapping[str, Facts], taken: set[str], time: Facts, looks: Looks
) -> tuple[dict[str, list[str]], list[LeftOut]]:
    """(features by list, the columns that are none), without those that are `taken`. Raises DataError when no feature is left."""
    features: dict[str, list[str]] = {kind: [] for kind in KINDS}
    left_out = []
    for each in facts.values():
        if each.name in taken:
            continue
        if each.name in request.leave_out:
            left_out.append(LeftOut(each.name, "--leave-out names it"))
        elif asked := [kind for kind in KINDS if each.name in getattr(request, kind)]:
            features[asked[0]].append(each.name)
        elif why := _unfit(each, time, looks):
            left_out.append(LeftOut(each.name, *why))
        else:
            features[_kind(each, looks)].append(each.name)
    if not any(features.values()):
        raise DataError(
            "--data", f"has no column to learn {request.target} from", "name features with --numeric or --categorical"
        )
    return features, left_out


def _kind(each: Facts, looks: Looks) -> str:
    if each.is_time:
        return "datetime"
    # Numbers that a double merges are names, such as those of accounts.
    return "numeric" if each.is_number and not looks.merges(each) else "text" if each.is_text else "categorical"


def _unfit(each: Facts, time: Facts, looks: Looks) -> tuple[str, str] | None:
    """Why a column is no feature, and what to do about it; None for one that is."""
    if one_name(each.name) in RESERVED | BESIDE_FEATURES:
        return "Perennial uses this name itself", "rename it in a SELECT as --data"
    if not each.name.strip() or not each.name.isprintable() or len(each.name) > LONGEST_NAME:
        return "its name is blank, is too long, or has a letter that is not shown", "rename it in a SELECT as --data"
    if each.filled == 0:
        return "it has a value in no row", ""
    if not each.fits:
        return f"it holds {each.type}, not one number or text", ""
    if each.is_number and not each.is_truth and each.unread > INFINITE * each.filled:
        return (
            f"it is infinite in {each.unread:,} of {each.rows:,} rows, and no such row is learnt from",
            "make them NULL in a SELECT as --data, or --numeric keeps it",
        )
    if each.different == 1 and each.filled == each.rows:
        return f"it is {each.example!r:.40} in every row", ""
    if each.is_time:
        return _unfit_time(each, time, looks)
    if each.identifies and each.epoch:
        return (
            f"it seems to be a time in {each.epoch} since 1970, and a number as a time is always new",
            "make a time of it in a SELECT as --data, or --numeric keeps it",
        )
    if each.identifies:
        return (
            f"it has {each.different:,} different values in {each.filled:,} rows, so it says who, not why",
            "--numeric or --categorical keeps it" if each.is_number else "--text or --categorical keeps it",
        )
    return None


def _unfit_time(each: Facts, time: Facts, looks: Looks) -> tuple[str, str] | None:
    if not looks.is_known_by(each.name, time.name):
        return f"it is a time, and may be later than {time.name}: what is known then must not be learnt from", ""
    if each.first is None or each.last is None or time.first is None or time.last is None:
        return f"it is a time that cannot be compared with {time.name}", "--datetime keeps it"
    if goes_on(each, time) and not has_age(each, time, looks):
        return f"it is a time that goes on with {time.name}, so that it is always new", "--datetime keeps it"
    return None


def has_age(each: Facts, time: Facts, looks: Looks) -> bool:
    """Whether a time lies before the event time in next to each row, and not always by as much."""
    if not (each.is_time and time.is_time) or time.first is None or time.last is None:
        return False
    if not looks.is_known_by(each.name, time.name):
        return False
    span = (time.last - time.first).total_seconds()
    return looks.spread_of_ages(each.name, time.name) > AGES_DIFFER * span


def goes_on(each: Facts, time: Facts) -> bool:
    """Whether a time goes on with the event time, so that it is always new."""
    if each.first is None or each.last is None or time.first is None or time.last is None:
        return False
    return each.last - each.first < SPANS * (time.last - time.first)
