"""Drift: false alarms on windows without drift, shifts and faults that are found, and what it costs, beside Evidently's preset.

The windows are weeks of flights of 2013 in an order drawn anew each time, so that no season is left, and a generated stream whose days
have levels of their own. The reference is 26 of the weeks, and the others are looked at. Calendar columns are left out.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd

from benchmarks.drift_faults import CATEGORICAL, HIDDEN, NUMERIC, Fault, by_kind
from benchmarks.limits import within_limit
from pipeline.monitoring.domain_classifier import DomainClassifier, block_of
from pipeline.monitoring.drift import Window, compare
from pipeline.monitoring.profiles.in_memory import profile_of
from pipeline.monitoring.profiles.reference import Reference, reference_of
from pipeline.settings.environment import Environment
from pipeline.settings.models import DriftLimits

REFERENCE_WEEKS, WEEKS, LOOKS = 26, 52, 91
SIZES = (200, 2_000, 20_000)
ORDERS = 2
EVIDENTLY_WINDOWS = 5
# A feature that does not come in bunches, as the most important ones of this model.
SHIFTED = "scheduled_min"
# Half of the carriers, and all of the airports, have rows enough in such a window.
SLICED = ("origin", "carrier")
# What no single feature shows in all weeks.
TOGETHER = [("swapped", "temp and humid"), ("F as C", "temp and dewp")]
# Each fault is looked at in every fifth of the weeks that were not learnt from.
EVERY = 5


def main() -> bool:
    weeks = {"flights": flights(), "generated": _generated()}
    calm, found = [], []
    for name, of_weeks in weeks.items():
        for size in SIZES:
            alarms, looks = _alarms(of_weeks, size, lambda rows: rows)
            calm.append(_within_budget(f"{name}, windows of {size:,}", alarms, looks))
    alarms, looks = _alarms(weeks["flights"], 2_000, _shifted)
    found.append(
        within_limit(f"found of a shift of {SHIFTED} by 0.2 SD in 2,000 rows", alarms / looks, 0.95, at_least=True)
    )
    alarms, looks = _alarms(weeks["flights"], 2_000, lambda rows: rows, 1, SLICED)
    calm.append(_within_budget(f"flights with slices of {' and '.join(SLICED)}, windows of 2,000", alarms, looks))
    found += _faults(weeks["flights"])
    found += _together(weeks["flights"])
    _evidently(weeks["flights"])
    return all([*calm, *found, _one_more_window(weeks["flights"])])


def flights() -> list[pd.DataFrame]:
    project = Path(Environment.read().project)
    rows = duckdb.sql(f"FROM read_parquet('{project}/warehouse/flights/*.parquet', union_by_name = true)").df()
    rows["at"] = pd.to_datetime(rows["scheduled_departure"], utc=True)
    week = (rows["at"] - rows["at"].min()).dt.days // 7
    return [rows[week == number].sort_values("at") for number in range(WEEKS)]


def _generated() -> list[pd.DataFrame]:
    """The same columns; each day's level follows the day before with a correlation of 0.8."""
    random = np.random.default_rng(1)
    times = pd.date_range("2013-01-01", periods=WEEKS * 7_000, freq="86400ms", tz="UTC")
    days, rows = WEEKS * 7, len(times)
    frame = {"at": times}
    for name in NUMERIC:
        levels = np.zeros(days)
        for day in range(1, days):
            levels[day] = 0.8 * levels[day - 1] + random.normal(0, 0.3)
        frame[name] = np.repeat(levels, math.ceil(rows / days))[:rows] + random.normal(0, 1, rows)
    for name in CATEGORICAL:
        frame[name] = random.choice(list("abcdefgh"), rows)
    made = pd.DataFrame(frame)
    return [made.iloc[start : start + 7_000] for start in range(0, rows, 7_000)]


def _shifted(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(**{SHIFTED: rows[SHIFTED] + 0.2 * rows[SHIFTED].std()})


def _split(
    weeks: list[pd.DataFrame], order: int, by: Sequence[str] = ()
) -> tuple[pd.DataFrame, Reference, list[pd.DataFrame]]:
    """The rows and profiles of the weeks that are learnt from, and the other weeks, in an order of their own."""
    permuted = [weeks[number] for number in np.random.default_rng(order).permutation(len(weeks))]
    learnt = permuted[:REFERENCE_WEEKS]
    start = pd.Timestamp("2013-01-07", tz="UTC")
    times = [start + pd.Timedelta(weeks=i) + (week["at"] - week["at"].min()) for i, week in enumerate(learnt)]
    rows = pd.concat(learnt, ignore_index=True)
    reference = reference_of(rows, NUMERIC, CATEGORICAL, pd.concat(times, ignore_index=True), by)
    return rows, reference, permuted[REFERENCE_WEEKS:]


def _windows(weeks: list[pd.DataFrame], size: int) -> Iterator[pd.DataFrame]:
    for number, week in enumerate(weeks):
        yield week.sample(min(size, len(week)), random_state=number)


def _alarms(
    weeks: list[pd.DataFrame], size: int, change: Fault, orders: int = ORDERS, by: Sequence[str] = ()
) -> tuple[int, int]:
    """(alarms, looks) at the weeks that were not learnt from."""
    verdicts = []
    for order in range(orders):
        _, reference, others = _split(weeks, order, by)
        for rows in _windows(others, size):
            window = Window(profile_of(change(rows), reference.layout), 7)
            verdicts.append(compare(reference, window, DriftLimits(), LOOKS).verdict)
    return verdicts.count("drift"), len(verdicts)


def _faults(weeks: list[pd.DataFrame]) -> list[bool]:
    """How often each fault of each column is found at the first look of 2,000 rows, and whether each kind is, but for what is hidden."""
    _, reference, others = _split(weeks, 0)
    windows = list(_windows(others, 2_000))[::EVERY]
    kept = []
    for kind, faults in by_kind().items():
        share = {}
        for columns, fault in faults.items():
            profiles = [profile_of(fault(rows), reference.layout) for rows in windows]
            verdicts = [compare(reference, Window(profile, 7), DriftLimits(), LOOKS).verdict for profile in profiles]
            share[columns] = verdicts.count("drift") / len(verdicts)
        print(f"found of {kind}: {', '.join(f'{columns} {found:.2f}' for columns, found in share.items())}")
        least = min(found for columns, found in share.items() if (kind, columns) not in HIDDEN)
        kept.append(within_limit(f"found of {kind}, in the column where it is hardest", least, 0.8, at_least=True))
    return kept


def _together(weeks: list[pd.DataFrame]) -> list[bool]:
    """The domain classifier: its false alarms, and what it finds of what hides from single features."""
    moved: dict[str, list[bool]] = {"no change": [], **{columns: [] for _, columns in TOGETHER}}
    took = []
    for order in range(ORDERS):
        rows, _, others = _split(weeks, order)
        sample = rows.sample(10_000, random_state=1)
        classifier = DomainClassifier(block_of(sample, sample["at"], NUMERIC), NUMERIC)
        null = classifier.null()
        for number, window in enumerate(_windows(others, 2_000)):
            changes = {"no change": lambda rows: rows}
            if number % EVERY == 0:
                changes |= {columns: by_kind()[kind][columns] for kind, columns in TOGETHER}
            for what, change in changes.items():
                began = time.process_time()
                block = block_of(change(window), window["at"], NUMERIC)
                moved[what].append(classifier.judged(block, null, 1 / LOOKS / 2).moved)
                took.append(time.process_time() - began)
    print(f"the classifier takes {1000 * float(np.median(took)):.0f} processor ms a window")
    quiet = moved.pop("no change")
    kept = [_within_budget("classifier", sum(quiet), len(quiet))]
    for what, found in moved.items():
        share = sum(found) / len(found)
        kept.append(within_limit(f"the classifier finds {what}, swapped or in Celsius", share, 0.8, at_least=True))
    return kept


def _within_budget(what: str, alarms: int, looks: int) -> bool:
    """So many alarms come in one of a hundred such runs, if one look in 91 alarms."""
    share = 1 / LOOKS
    most = next(k for k in range(looks + 1) if sum(_binomial(looks, i, share) for i in range(k + 1)) >= 0.99)
    return within_limit(f"false alarms of {looks} looks, {what}", alarms, most)


def _binomial(looks: int, alarms: int, share: float) -> float:
    return math.comb(looks, alarms) * share**alarms * (1 - share) ** (looks - alarms)


def _evidently(weeks: list[pd.DataFrame]) -> None:
    """Evidently's preset on the same windows, and its PSI over 0.2, which decided here before."""
    warnings.simplefilter("ignore")
    rows, _, others = _split(weeks, 0)
    before = rows.sample(10_000, random_state=1)[[*NUMERIC, *CATEGORICAL]]
    for size in SIZES[:2]:
        windows = [window[[*NUMERIC, *CATEGORICAL]] for window in _windows(others[:EVIDENTLY_WINDOWS], size)]
        for name, method in (("preset", None), ("PSI over 0.2", "psi")):
            quiet = [_evidently_moved(before, window, method) for window in windows]
            shifted = [SHIFTED in _evidently_moved(before, _shifted(window), method) for window in windows]
            print(
                f"Evidently's {name}, windows of {size:,}: {sum(map(bool, quiet))} of {len(windows)} alarm without drift, "
                f"{sum(shifted)} name {SHIFTED} shifted by 0.2 SD"
            )


def _evidently_moved(before: pd.DataFrame, now: pd.DataFrame, method: str | None) -> list[str]:
    """The columns that Evidently calls drifted."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    options = {"method": method, "threshold": 0.2} if method else {}
    metrics = [ValueDrift(column=column, **options) for column in [*NUMERIC, *CATEGORICAL]]
    definition = DataDefinition(numerical_columns=NUMERIC, categorical_columns=CATEGORICAL)
    tables = [Dataset.from_pandas(table, data_definition=definition) for table in (now, before)]
    tests = Report(metrics, include_tests=True).run(*tables).dict()["tests"]
    return [column for column, test in zip([*NUMERIC, *CATEGORICAL], tests, strict=True) if test["status"] == "FAIL"]


def _one_more_window(weeks: list[pd.DataFrame]) -> bool:
    """Processor time of a verdict on a window that is counted already."""
    _, reference, others = _split(weeks, 0)
    window = Window(profile_of(others[0].head(2_000), reference.layout), 7)
    took = []
    for _ in range(5):
        began = time.process_time()
        compare(reference, window, DriftLimits(), LOOKS)
        took.append(1000 * (time.process_time() - began))
    # It is 31 on a quiet machine, and twice that where five others work on two processors.
    return within_limit("processor ms of one more window", min(took), 50, binding=False)
