"""`perennial init`: a target that counts things, and a column that says how much a row counts."""

import numpy as np
import pytest

from pipeline.errors import PerennialError
from tests.unit.test_init import RANDOM, ROWS, SPEND, TABLE, drafted, left_out, project

__all__ = ["project"]
CLAIMS = np.minimum(RANDOM.poisson(np.exp(0.8 * SPEND - 0.5)), 8)
TARGETS = {
    "claims": CLAIMS,
    "many": RANDOM.poisson(np.exp(SPEND + 0.5)),
    # Six codes of one size, and six in no order.
    "codes": np.resize(np.arange(6), ROWS),
    "others": RANDOM.choice(6, ROWS, p=[0.1, 0.3, 0.05, 0.3, 0.05, 0.2]),
    "stars": np.resize([1, 2, 3, 4, 5], ROWS),
    "n_visits": np.resize(np.arange(1, 9), ROWS),
    "account_number_of_a_house": np.arange(ROWS) % 999,
}


def said_of(result, what):
    return next((str(each) for each in result.draft.assumptions if each.what == what), None)


@pytest.mark.parametrize(
    ("target", "task", "loss", "metric"),
    [
        ("claims", "regression", "poisson", "poisson_deviance"),
        ("many", "regression", "poisson", "poisson_deviance"),
        ("n_visits", "regression", "poisson", "poisson_deviance"),
        ("codes", "multiclass", None, "log_loss"),
        ("others", "multiclass", None, "log_loss"),
        ("stars", "multiclass", None, "log_loss"),
        ("account_number_of_a_house", "regression", None, "mae"),
    ],
)
def test_whole_numbers_that_get_rarer_or_are_named_so_are_counts(project, target, task, loss, metric):
    """A count is learnt with a Poisson loss and judged by its deviance; codes of classes and amounts stay what they were."""
    settings = drafted(project, TABLE.assign(**{target: TARGETS[target]}), target=target, numeric=("churned",)).draft
    training = settings.settings["training"]
    assert (training["task"], training.get("options", {}).get("loss")) == (task, loss)
    assert settings.settings["evaluation"]["metric"] == metric


def test_a_count_says_the_flags_that_change_it_and_they_do(project):
    """Its line names --task multiclass; with another metric, of the median, the loss is the usual one."""
    table = TABLE.assign(churned=CLAIMS)
    result = drafted(project, table)
    assert "larger ones are rarer, as counts are (--task multiclass makes each a class)" in said_of(result, "task")
    assert said_of(result, "metric").startswith("metric: poisson_deviance, with loss: poisson")
    assert drafted(project, table, task="multiclass").draft.settings["evaluation"]["metric"] == "log_loss"
    by_error = drafted(project, table, metric="mae").draft.settings
    assert (by_error["training"]["task"], "options" in by_error["training"]) == ("regression", False)


def test_a_weight_is_taken_by_flag_or_by_a_sure_name_and_weighs_the_limit(project):
    """A column of another name stays a feature, and a line says which flag changes that."""
    heavy = np.where(TABLE.churned == 1, 9, 1)
    named = drafted(project, TABLE.assign(sample_weight=heavy), metric="log_loss").draft
    assert named.settings["training"]["weight"] == "sample_weight"
    assert "sample_weight" not in named.settings["training"]["numeric"]
    without = drafted(project, metric="log_loss").draft.settings["gates"]["metric_limit"]
    assert abs(named.settings["gates"]["metric_limit"] - without) > 0.05
    rows = TABLE.assign(weight=RANDOM.uniform(1, 3, ROWS))
    feature = drafted(project, rows)
    assert "weight" in feature.draft.settings["training"]["numeric"]
    assert said_of(feature, "weight").endswith("(--weight weight)")
    assert drafted(project, rows, weight="weight").draft.settings["training"]["weight"] == "weight"
    asked = drafted(project, TABLE.assign(sample_weight=heavy * 1.5), numeric=("sample_weight",)).draft.settings
    assert "weight" not in asked["training"] and "sample_weight" in asked["training"]["numeric"]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("plan", f"--weight plan: is a number in 0 of {ROWS:,} cells; one is "),
        ("spend", "--weight spend: goes from -"),
        ("churned", "--weight churned: is the target; name another column"),
        ("wieght", "--weight wieght: is no column of the data"),
    ],
)
def test_a_weight_that_is_none_is_refused_in_a_line(project, name, line):
    """By its flag, before anything is written."""
    with pytest.raises(PerennialError) as refused:
        drafted(project, weight=name)
    assert str(refused.value).startswith(line)


def test_rows_without_a_weight_may_be_left_out(project):
    """Such a row is quarantined, so the share that may be grows with them."""
    weight = np.where(np.arange(ROWS) % 20, 2.0, np.nan)
    result = drafted(project, TABLE.assign(count_as=weight), weight="count_as")
    assert result.draft.settings["gates"]["contract"]["max_bad_share"] == pytest.approx(0.1)
    assert "count_as" not in left_out(result)
