"""Of a table as people keep them, `init` refuses what would be learnt wrongly, with what to write instead."""

import re

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import DataError
from pipeline.init.request import Request
from pipeline.init.run import init
from tests.unit.test_init import PARAMS

ROWS = 400
RANDOM = np.random.default_rng(3)
SIZE = RANDOM.normal(size=ROWS)
IS = RANDOM.normal(size=ROWS) + SIZE > 0
SPELLINGS = [("yes", "no"), ("Yes", "No"), ("Y", "N"), ("true", "false"), ("1", "0")]


@pytest.fixture
def drafted(tmp_path, monkeypatch):
    """Drafts a block for a table of ROWS rows with the given columns, and `size`."""
    (tmp_path / "params.yaml").write_text(PARAMS)
    monkeypatch.chdir(tmp_path)

    def draft(data="rows.csv", target="answer", asked=None, dry_run=False, **columns):
        seen = pd.date_range("2024-01-01", periods=ROWS, freq="h").strftime("%Y-%m-%dT%H:%M:%SZ")
        frame = pd.DataFrame({"seen_at": seen, "size": SIZE.round(4), **columns})
        frame.to_csv("rows.csv", index=False)
        return init(Request("model", data, target, **(asked or {})), tmp_path, dry_run).draft

    return draft


def test_an_answer_in_five_spellings_is_refused_with_the_select_that_writes_it_alike(drafted):
    """The SELECT gives a binary task; nobody gets ten classes without having asked for them."""
    answer = [SPELLINGS[row % 5][0 if truth else 1] for row, truth in enumerate(IS)]
    with pytest.raises(
        DataError, match="differ in spelling alone, '1', 'Y', 'Yes', 'true', 'yes', and each"
    ) as refused:
        drafted(answer=answer)
    select = re.search(r'--data "(.*)", or say', str(refused.value))[1].replace('\\"', '"')
    draft = drafted(data=select, answer=answer)
    assert draft.settings["training"]["task"] == "binary"


def test_labels_that_differ_in_capitals_are_one_class_until_somebody_says_otherwise(drafted):
    """`--task multiclass` says otherwise."""
    answer = np.where(IS, "gone", np.where(SIZE > 0, "stays", "Stays"))
    with pytest.raises(DataError, match="differ in spelling alone, 'Stays', 'stays'"):
        drafted(answer=answer)
    draft = drafted(answer=answer, asked={"task": "multiclass"})
    assert draft.settings["training"]["task"] == "multiclass"
    with pytest.raises(DataError, match="differ in spelling alone"):
        drafted(answer=np.where(IS, "klein", np.where(SIZE > 0, "gr\u00f6\u00dfer", "gro\u0308\u00dfer")))


def test_a_class_that_is_called_none_is_told_with_the_select_that_keeps_it(drafted):
    """A missing label is written so too; with the SELECT it is a class, also where only one other label is left."""
    answer = np.where(IS, "Minor", np.where(SIZE > 0, "Severe", "None"))
    told = {each.what: str(each) for each in drafted(answer=answer, dry_run=True).assumptions}
    assert told["no label"].startswith(
        f"no label: {(answer == 'None').sum()} rows, 'None' is how a missing value is written"
    )
    assert told["task"].startswith("task: binary")
    select = re.search(r'--data "(.*)"', told["no label"])[1].replace('\\"', '"')
    assert drafted(data=select, answer=answer, dry_run=True).settings["training"]["task"] == "multiclass"
    with pytest.raises(DataError, match="is 'Minor' in every row but .* that say 'None', which") as refused:
        drafted(answer=np.where(IS, "Minor", "None"))
    select = re.search(r'--data "(.*)"', str(refused.value))[1].replace('\\"', '"')
    draft = drafted(data=select, answer=np.where(IS, "Minor", "None"), asked={"positive": "Minor"})
    assert draft.settings["training"]["positive"] == "Minor"


def test_a_label_that_was_known_before_its_features_is_refused(drafted):
    """A label time before the event time in most rows is the wrong column, or the wrong way round."""
    done = pd.date_range("2023-12-01", periods=ROWS, freq="h").strftime("%Y-%m-%dT%H:%M:%SZ")
    with pytest.raises(DataError, match="--label-time done: is before seen_at in most rows"):
        drafted(answer=np.where(IS, "yes", "no"), done=done, asked={"label_time": "done"})


def test_a_number_in_brackets_is_a_negative_one(drafted):
    """As accounts write it: the SELECT that is offered reads (12.50) as -12.5."""
    paid = [f"({abs(size):.2f})" if size < 0 else f"{size:.2f}" for size in SIZE * 100]
    with pytest.raises(DataError, match=r"column paid: has numbers with marks .* as -\d"):
        drafted(answer=np.where(IS, "yes", "no"), paid=paid)


def test_a_column_with_a_line_break_in_its_name_is_left_out(drafted):
    """Its comment in the block stays one line."""
    draft = drafted(answer=np.where(IS, "yes", "no"), **{"two\nlines": RANDOM.normal(size=ROWS).round(2)})
    assert [str(each).partition(":")[0] for each in draft.left_out] == [r"left out 'two\nlines'"]


@pytest.mark.parametrize(
    ("one", "other", "task"),
    [(("1", "1.0"), ("0", "0.0"), "binary"), (("2", "02"), ("3", "+3"), "binary"), (("1", "yes"), ("0", "no"), None)],
)
def test_a_number_is_one_label_however_it_is_written(drafted, one, other, task):
    """1 and 1.0 are one of two labels, and no classes of their own; words beside numbers are refused."""
    answer = [(one if truth else other)[row % 2] for row, truth in enumerate(IS)]
    if task is None:
        with pytest.raises(DataError, match="differ in spelling alone"):
            drafted(answer=answer)
        return
    assert drafted(answer=answer).settings["training"]["task"] == task


def test_classes_with_zeros_in_front_are_said_to_lose_them(drafted):
    """The answers have 1 for 01."""
    lines = [str(each) for each in drafted(answer=[f"{int(3 * abs(size)):02d}" for size in SIZE]).assumptions]
    assert any("01 is 1" in line for line in lines), lines


def test_infinite_numbers_are_counted_as_none(drafted):
    """In Parquet too, where they are no texts: neither a first check nor a limit is made of them."""
    frame = pd.DataFrame(
        {"seen_at": pd.date_range("2024-01-01", periods=ROWS, freq="h"), "size": SIZE, "answer": SIZE * 2}
    )
    frame.loc[::40, "answer"], frame.loc[1::80, "size"] = np.inf, -np.inf
    frame["ratio"], frame["noise"] = np.where(SIZE > 0, np.inf, SIZE), RANDOM.normal(size=ROWS)
    frame.to_parquet("rows.parquet")
    draft = drafted(data="rows.parquet", answer=1)
    assert draft.settings["training"]["task"] == "regression"
    assert draft.settings["gates"]["contract"]["max_bad_share"] == pytest.approx(2 * 15 / ROWS)
    assert np.isfinite(draft.settings["gates"]["metric_limit"])
    assert any("left out ratio: it is infinite in" in str(each) for each in draft.left_out)


def test_a_weight_with_a_slip_is_said_to_stay_a_feature(drafted):
    """A negative weight, or one that is missing, is no weight; nobody should find it among the features by chance."""
    for slip, words in ((-1.0, "goes from -1 to 2"), (np.nan, "is a number in 399 of 400 rows")):
        weights = np.where(np.arange(ROWS) == 7, slip, 2.0)
        lines = [str(each) for each in drafted(answer=IS, sample_weight=weights, dry_run=True).assumptions]
        assert any(words in line and "stays a feature" in line for line in lines), lines


def test_a_column_without_a_name_is_left_out_by_a_line(drafted):
    """pandas writes its index so, unless somebody asks it not to."""
    draft = drafted(answer=IS, **{"": range(ROWS), " ": SIZE, "perennial_time": SIZE})
    lines = [str(each) for each in draft.left_out]
    assert len(lines) == 3 and any("it has no name in the first line" in line for line in lines), lines
