"""Retrain policies replayed on real streams, beside the cheapest that anybody could have done who had known it.

Each cell is a stream, a learner, a seed and a cost of a retrain. The first 30 % of its windows stand for the backtest: there schedules are
tuned and curves fitted. The rest is replayed, with labels that come late. Seven costs are spread evenly in their logarithm, from that at
which the oracle retrains before a quarter of the windows to that at which it never does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from benchmarks.limits import within_limit
from benchmarks.policy_matrices import Cell, cells, history_of, make_missing, spans_of
from benchmarks.policy_streams import Absent
from pipeline.policy.retraining.base import History, Policy
from pipeline.policy.retraining.drift import Drift
from pipeline.policy.retraining.forecast import Forecast, gains_of
from pipeline.policy.retraining.held import Held, Spans
from pipeline.policy.retraining.metric import Metric
from pipeline.policy.retraining.replay import Outcome, oracle, replay
from pipeline.policy.retraining.schedule import ALWAYS, NEVER, Schedule
from pipeline.policy.retraining.staleness import backtested
from pipeline.policy.retraining.value import Value

TUNED_ON = 0.3
COSTS = 7
# Windows between two retrains that a schedule may have; never comes first, for where all are equal.
SCHEDULES = (NEVER, *(Schedule(every) for every in (1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 21, 26, 34, 43, 52, 78, 104)))
# Each way to weigh the two views of `value`, from which one is chosen without the stream that it is judged on.
WEIGHTS = ((0.15, 0.85), (0.3, 0.7), (0.5, 0.5), (0.7, 0.3))
DEFAULT, TUNED, HINDSIGHT, ORACLE = "value", "tuned schedule", "best schedule in hindsight", "oracle"


@dataclass(frozen=True)
class Found:
    """What each policy came to in a cell, by its name."""

    cell: Cell
    cost: float
    outcomes: dict[str, Outcome]

    def total(self, policy: str) -> float:
        return self.outcomes[policy].total

    def against(self, policy: str, other: str) -> float:
        return self.total(policy) / self.total(other)


def main() -> bool:
    make_missing(cells())
    return judged()


def judged() -> bool:
    """Prints the table and the figures of the matrices that are kept."""
    found, nulls, absent = [], [], []
    for cell in cells():
        try:
            history = history_of(cell)
        except Absent:
            absent.append(cell.file.stem)
            continue
        if cell.shuffled:
            nulls += _nulls(cell, history)
        else:
            found += in_cell(cell, history)
        print(f"replayed {cell.file.stem}", file=sys.stderr)
    if absent:
        print(f"left out, because they were not made: {', '.join(absent)}")
    if not found:
        return False
    _table(found)
    by_stream(found)
    _left_out(found)
    return all([*_figures(found), _null_figure(nulls)])


def _policies(history: History, first: int, spans: Spans) -> dict[str, Policy]:
    """Each policy by its name, with what it has learnt of the first windows."""
    losses, drifted = history.losses[:first, :first], history.drifted[:first]
    curve = backtested(losses, drifted)
    gains = gains_of(losses, np.arange(first), history.delay, all_pairs=True)
    by_losses: dict[str, Policy] = {"metric": Metric(), "forecast": Forecast(gains), DEFAULT: Value(curve)}
    by_losses |= {_weighed(*weights): Value(curve, *weights) for weights in WEIGHTS}
    held = {name: Held(rule, curve, spans) for name, rule in by_losses.items()}
    return {"always": ALWAYS, "drift": Drift(), "never": NEVER, **held}


def _weighed(by_curve: float, by_loss: float) -> str:
    return f"value {by_curve:g}/{by_loss:g}"


def in_cell(cell: Cell, history: History) -> list[Found]:
    """What the policies come to with each cost of a retrain."""
    first = round(TUNED_ON * history.windows)
    policies = _policies(history, first, spans_of(cell))
    past = History(history.losses[:first, :first], history.weights[:first], history.delay, history.drifted[:first])
    found = []
    for cost in _costs(history, first):
        outcomes = {name: replay(history, policy, cost, first) for name, policy in policies.items()}
        tuned = min(SCHEDULES, key=lambda one: replay(past, one, cost).total)
        by_schedule = [replay(history, one, cost, first) for one in SCHEDULES]
        outcomes[TUNED] = replay(history, tuned, cost, first)
        outcomes[HINDSIGHT] = min(by_schedule, key=lambda outcome: outcome.total)
        outcomes[ORACLE] = oracle(history, cost, first)
        found.append(Found(cell, cost, outcomes))
    return found


def _costs(history: History, first: int) -> list[float]:
    a_quarter = (history.windows - first) / 4
    low = _least_cost(lambda cost: len(oracle(history, cost, first).retrained) <= a_quarter)
    high = _least_cost(lambda cost: not oracle(history, cost, first).retrained)
    return [float(cost) for cost in np.geomspace(low, high, COSTS)]


def _least_cost(enough: Callable[[float], bool]) -> float:
    """By halving, within a percent."""
    low, high = 1e-6, 1e6
    while high / low > 1.01:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _nulls(cell: Cell, history: History) -> list[Found]:
    """The stream's rows in no order of time, with the costs of its real order."""
    ordered = history_of(Cell(cell.seed, False, cell.stream, cell.learner))
    first = round(TUNED_ON * history.windows)
    policies = _policies(history, first, spans_of(cell))
    named = {name: policies[name] for name in ("never", DEFAULT)}
    return [
        Found(cell, cost, {name: replay(history, policy, cost, first) for name, policy in named.items()})
        for cost in _costs(ordered, first)
    ]


def _table(found: list[Found]) -> None:
    streams = {one.cell.stream for one in found}
    seeds = {one.cell.seed for one in found}
    print(f"\n{len(found)} cells: {', '.join(sorted(streams))}; seeds {', '.join(map(str, sorted(seeds)))}")
    print("| policy | cost / cheapest possible in hindsight | against the tuned schedule | retrains | goes back |")
    print("|---|---|---|---|---|")
    names = [name for name in found[0].outcomes if not name.startswith("value ")]
    for name in sorted(names, key=lambda name: -mean_ratio(found, name, ORACLE)):
        tuned = "–" if name == TUNED else f"{100 * (mean_ratio(found, name, TUNED) - 1):+.1f} %"
        retrains = fmean(len(one.outcomes[name].retrained) for one in found)
        back = fmean(len(one.outcomes[name].went_back) for one in found)
        print(f"| {name} | {mean_ratio(found, name, ORACLE):.3f} | {tuned} | {retrains:.0f} | {back:.1f} |")


def by_stream(found: list[Found]) -> None:
    """Prints a row for each stream."""
    print(f"\n| stream | cells | {DEFAULT} / oracle | / tuned schedule | never / oracle | tuned / oracle | way |")
    print("|---|---|---|---|---|---|---|")
    for stream in sorted({one.cell.stream for one in found}):
        here = [one for one in found if one.cell.stream == stream]
        figures = [
            mean_ratio(here, *pair)
            for pair in ((DEFAULT, ORACLE), (DEFAULT, TUNED), ("never", ORACLE), (TUNED, ORACLE))
        ]
        print(f"| {stream} | {len(here)} | {' | '.join(f'{figure:.3f}' for figure in figures)} | {way(here):.2f} |")


def mean_ratio(found: list[Found], policy: str, other: str) -> float:
    """Of one's cost by the other's."""
    return fmean(one.against(policy, other) for one in found)


def way(found: list[Found]) -> float:
    """How far the default comes from the better of never and always to the oracle, of the streams' mean costs over the oracle's."""
    better = fmean(min(one.against("never", ORACLE), one.against("always", ORACLE)) for one in found)
    return (better - mean_ratio(found, DEFAULT, ORACLE)) / (better - 1)


def _left_out(found: list[Found]) -> None:
    """The weights of the two views, chosen by the other streams alone."""
    streams = sorted({one.cell.stream for one in found})
    if len(streams) < 2:
        return
    ratios = []
    for stream in streams:
        others = [one for one in found if one.cell.stream != stream]
        chosen = min(WEIGHTS, key=lambda weights: mean_ratio(others, _weighed(*weights), ORACLE))
        here = [one for one in found if one.cell.stream == stream]
        print(
            f"weights without {stream}: {chosen}, there {mean_ratio(here, _weighed(*chosen), ORACLE):.3f} of the oracle"
        )
        ratios += [one.against(_weighed(*chosen), ORACLE) for one in here]
    print(f"weights chosen without the stream they are judged on: {fmean(ratios):.3f} of the oracle on average")


def _figures(found: list[Found]) -> list[bool]:
    over = np.array([one.against(DEFAULT, TUNED) for one in found])
    return [
        _kept("cost of the default by the oracle's", mean_ratio(found, DEFAULT, ORACLE), 1.06),
        _kept("way from the better of never and always to the oracle", way(found), 0.45, at_least=True),
        _kept("cost of the default by the tuned schedule's", float(over.mean()), 0.97),
        _kept("share of cells at most 5 % above the tuned schedule", float((over <= 1.05).mean()), 0.95, at_least=True),
        _kept("the worst cell by the tuned schedule", float(over.max()), 1.15),
    ]


def _null_figure(nulls: list[Found]) -> bool:
    return not nulls or _kept("cost on shuffled streams by never's", mean_ratio(nulls, DEFAULT, "never"), 1.005)


def _kept(what: str, observed: float, limit: float, *, at_least: bool = False) -> bool:
    return within_limit(f"{what}, {observed:.4f},", observed, limit, at_least=at_least)


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
