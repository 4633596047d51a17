"""Each measure is what scipy says where nothing is binned, and within its stated bound where values are."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.spatial import distance

from pipeline.monitoring.drift import MEASURES
from pipeline.monitoring.measures.base import FEWEST_VALUES, Measure
from pipeline.monitoring.measures.chi_square import ChiSquare
from pipeline.monitoring.measures.jensen_shannon import JensenShannon
from pipeline.monitoring.measures.kolmogorov_smirnov import KolmogorovSmirnov
from pipeline.monitoring.measures.kullback_leibler import KullbackLeibler
from pipeline.monitoring.measures.psi import Psi
from pipeline.monitoring.measures.wasserstein import Wasserstein
from pipeline.monitoring.profiles.in_memory import profile_of
from pipeline.monitoring.profiles.layout import layout_of


def counted(before, now, numeric=("x",), categorical=()):
    """The layout of the column, and the cells of both tables."""
    tables = [pd.DataFrame({"x": values}) for values in (before, now)]
    layout = layout_of(tables[0], numeric, categorical)
    return layout.columns[0], *(profile_of(table, layout).cells["x"] for table in tables)


@pytest.fixture(params=range(5))
def few(request):
    """Two samples of eight values each: every value has a bucket of its own."""
    rng = np.random.default_rng(request.param)
    values = np.sort(rng.normal(0, 10, 8))
    before = np.concatenate([values, rng.choice(values, 500)])
    return before, rng.choice(values, 300, p=rng.dirichlet(np.ones(8)))


@pytest.fixture(params=range(5))
def many(request):
    """Two samples of different values."""
    rng = np.random.default_rng(request.param)
    return rng.normal(0, 1, 3000), rng.normal(rng.uniform(-0.5, 0.5), rng.uniform(0.7, 1.3), 2000)


def shares(column, cells):
    counts = cells[: column.buckets]
    return counts / counts.sum()


def test_without_bins_each_measure_is_scipys(few):
    """Jensen-Shannon, Kolmogorov-Smirnov, Wasserstein, chi-square and Kullback-Leibler, to nine digits."""
    before, now = few
    column, b, n = counted(before, now)
    p, q = shares(column, b), shares(column, n)
    table = np.array([b, n])[:, : column.buckets]
    seen = table[:, table.sum(axis=0) > 0]
    expected = {
        JensenShannon: distance.jensenshannon(p, q),
        KolmogorovSmirnov: stats.ks_2samp(before, now).statistic,
        Wasserstein: stats.wasserstein_distance(before, now) / np.std(before),
        ChiSquare: stats.chi2_contingency(seen, correction=False).statistic / (seen.shape[1] - 1),
        KullbackLeibler: stats.entropy(q[p > 0], p[p > 0]),
    }
    for measure, value in expected.items():
        assert measure().distance(column, b, n) == pytest.approx(value, abs=1e-9), measure.name


def test_in_bins_a_measure_is_within_its_bound(many):
    """Kolmogorov-Smirnov by the largest bucket's share, Wasserstein by the widest bucket's width."""
    before, now = many
    now = np.clip(now, before.min(), before.max())
    column, b, n = counted(before, now)
    exact = stats.ks_2samp(before, now).statistic
    binned = float(KolmogorovSmirnov().distance(column, b, n))
    assert binned - 1e-9 <= exact <= binned + max(*shares(column, b), *shares(column, n))
    exact = stats.wasserstein_distance(before, now) / column.scale
    widest = max(np.diff(column.edges)) / column.scale
    assert float(Wasserstein().distance(column, b, n)) == pytest.approx(exact, abs=widest)


def test_psi_is_the_sum_that_its_docstring_says(many):
    """With many rows half a row a bucket is next to nothing."""
    before, now = many
    column, b, n = counted(before, now[(now > before.min()) & (now < before.max())])
    p, q = shares(column, b), shares(column, n)
    inner = (p > 0) & (q > 0)
    plain = ((q - p) * np.log(np.where(inner, q, 1) / np.where(inner, p, 1)))[inner].sum()
    assert Psi().distance(column, 1000 * b, 1000 * n) == pytest.approx(plain, rel=0.05)
    assert Psi().distance(column, b, b) == pytest.approx(0, abs=1e-6)


def test_psi_by_chance_is_what_it_is_said_to_be():
    """Of two samples of one distribution it is (k - 1)(1/n + 1/m) on average, and above `least` in one of twenty."""
    rng = np.random.default_rng(1)
    reference = rng.normal(0, 1, 5000)
    layout = layout_of(pd.DataFrame({"x": reference}), ["x"], [])
    (column,) = layout.columns
    chances = np.full(column.buckets, 0.1)
    chances[[0, -1]] = 0
    before, now = (np.zeros((4000, column.cells)) for _ in range(2))
    before[:, : column.buckets] = rng.multinomial(5000, chances, 4000)
    now[:, : column.buckets] = rng.multinomial(800, chances, 4000)
    found = Psi().distance(column, before, now)
    assert found.mean() == pytest.approx(9 * (1 / 5000 + 1 / 800), rel=0.1)
    assert (found > Psi().least(column, before[0], now[0])).mean() == pytest.approx(0.05, abs=0.015)


def test_chi_square_of_categories_is_scipys():
    """Categories are compared value by value; those that are no frequent ones together."""
    rng = np.random.default_rng(1)
    before, now = (rng.choice(list("abcd"), rows, p=p) for rows, p in ((900, [0.4, 0.3, 0.2, 0.1]), (400, [0.25] * 4)))
    column, b, n = counted(before, now, (), ["x"])
    table = np.array([b, n])[:, :4]
    assert ChiSquare().distance(column, b, n) == pytest.approx(stats.chi2_contingency(table).statistic / 3, abs=1e-9)


def test_each_measure_takes_many_windows_at_once(many):
    """A limit is made of many draws: a measure of them is the measure of each."""
    column, b, n = counted(*many)
    windows = np.array([n, b, n + b])
    for measure in MEASURES:
        if measure.fits(column):
            one_by_one = [float(measure.distance(column, b, window)) for window in windows]
            assert measure.distance(column, np.array([b] * 3), windows) == pytest.approx(one_by_one), measure.name


def test_each_measure_says_what_it_is_and_when_it_is_the_wrong_one():
    """The docstring of its file has the formula or the source, and the case in which another one is right."""
    for measure in MEASURES:
        assert isinstance(measure, Measure)
        told = __import__(type(measure).__module__, fromlist=["x"]).__doc__
        assert "the wrong" in told and len(told) > 100, measure.name


def test_too_few_values_are_not_judged():
    """Nothing is said of how fewer than twenty values are distributed."""
    column, b, n = counted(np.arange(100.0), np.arange(FEWEST_VALUES - 1.0))
    assert not Psi().judged(column, b, n)
    assert Psi().judged(column, b, 2 * n)


def test_evidently_sees_the_same_shift(many):
    """Evidently's PSI of the same samples, on thirty bins of its own, and ours on the reference's deciles, order shifts alike."""
    before, _ = many
    rng = np.random.default_rng(9)
    ours, theirs = [], []
    for shift in (0.0, 0.3, 1.0):
        now = rng.normal(shift, 1, 3000)
        column, b, n = counted(before, now)
        ours.append(float(Psi().distance(column, b, n)))
        theirs.append(evidently_psi(before, now))
    assert np.argsort(ours).tolist() == np.argsort(theirs).tolist() == [0, 1, 2]


def evidently_psi(before, now):
    from evidently.legacy.calculations.stattests import get_stattest
    from evidently.legacy.core import ColumnType

    reference, current = pd.Series(before), pd.Series(now)
    test = get_stattest(reference, current, ColumnType.Numerical, "psi")
    return test(reference, current, ColumnType.Numerical, 0.1).drift_score
