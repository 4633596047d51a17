"""`perennial init`: each flag does what it says, and a wrong one is refused by its own name."""

import pytest

from pipeline.errors import PerennialError
from tests.unit.test_init import ROWS, TABLE, drafted, project

__all__ = ["project"]


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({"timezone": "Mars/X"}, "--timezone Mars/X: is no time zone"),
        ({"window_days": float("nan")}, "--window-days nan: is no number of days"),
        ({"holdout_days": float("inf")}, "--holdout-days inf: is no number of days"),
        ({"window_days": 0.0}, "--window-days 0: is no number of days"),
        ({"window_days": 5.0, "holdout_days": 5.0}, "--holdout-days 5: leaves nothing of --window-days 5"),
        ({"window_days": 0.5}, "--window-days 0.5: has "),
        ({"cron": ""}, "--cron : must be a cron schedule"),
        ({"cron": "0 0 31 2 *"}, "--cron 0 0 31 2 *: day '31'"),
        ({"data": " "}, "--data: is empty"),
        ({"time": "churned"}, "--time churned: is the target"),
        ({"label_time": "churned"}, "--label-time churned: is the target"),
        ({"weight": "churned"}, "--weight churned: is the target"),
        ({"numeric": ("churned",)}, "--numeric churned: is the target already"),
        ({"datetime": ("seen_at",)}, "--datetime seen_at: is the key, the weight or a time already"),
        ({"leave_out": ("churned",)}, "--leave-out churned: is the target already"),
        ({"numeric": ("spend",), "categorical": ("spend",)}, "--numeric spend: is under --categorical too"),
        ({"text": ("plan",), "leave_out": ("plan",)}, "--text plan: is under --leave-out too"),
        ({"numeric": ("plan",)}, f"--numeric plan: is a number in 0 of {ROWS:,} cells; one is "),
        ({"datetime": ("plan",)}, f"--datetime plan: is a time in 0 of {ROWS:,} cells; one is "),
    ],
)
def test_a_wrong_flag_is_refused_in_one_line_by_its_name(project, asked, line):
    """A flag that cannot be followed is never left aside silently, and never a traceback or a key of a block that is not written."""
    with pytest.raises(PerennialError) as refused:
        drafted(project, **({"time": "seen_at"} | asked))
    assert str(refused.value).startswith(line) and "\n" not in str(refused.value)


def test_a_shorter_window_is_judged_by_its_own_rows(project):
    """With --window-days the held-out rows are a fifth of those in the window, and the fewest rows a tenth of them."""
    settings = drafted(project, window_days=30.0).draft.settings
    assert 5 <= settings["evaluation"]["holdout_days"] <= 7
    assert 0.25 * ROWS / 10 < settings["gates"]["contract"]["min_rows"] < 0.35 * ROWS / 10


@pytest.mark.parametrize(("labels", "positive"), [((0, 1), "1"), (("no", "yes"), "yes"), ((False, True), "true")])
def test_which_label_is_the_positive_one_is_always_said(project, labels, positive):
    """Also where labels are 0 and 1, or words for true and false, a line says which of them a prediction is the probability of."""
    result = drafted(project, TABLE.assign(churned=[labels[row] for row in TABLE.churned]))
    (said,) = [each for each in result.draft.assumptions if each.what == "positive"]
    assert said.chosen.lower() == positive
