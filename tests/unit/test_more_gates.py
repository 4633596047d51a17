"""Single gates on a model: what each of them sees, what it leaves alone, and when it has no verdict."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml

from harness.ledgers import ledger_of
from harness.project import CHURN, customers
from pipeline.errors import DataError
from pipeline.gates import churn, constant_prediction, fairness, slices, unknown_ranges
from pipeline.gates.base import LiveFacts, PackagedModel
from pipeline.gates.group_means import means
from pipeline.gates.row_groups import groups_of
from pipeline.gates.skill import skill
from pipeline.gates.slice_losses import SliceLoss
from pipeline.ledger.timeline import LiveVersion
from pipeline.rollout.prediction_folders import predictions_folder
from pipeline.runs import live_facts, stages
from pipeline.serving import log_files
from pipeline.serving.prediction_log import AnsweredRequest, LogSchema
from pipeline.serving.runtime import Runtime
from pipeline.settings.models import Model, load
from pipeline.training.tasks import Answers
from pipeline.workspaces.dvc_graph import Artifacts
from tests.support.gate_rows import model, packaged, rows_of

NOW = datetime(2024, 3, 10, tzinfo=UTC)


def test_intervals_of_many_groups_hold_for_all_of_them():
    """Of forty groups that lose nothing one is outside of its 95 % interval in a few tables, rows of a day together."""
    rng, outside = np.random.default_rng(5), 0
    blocks = np.repeat(np.arange(20), 100)
    for _ in range(30):
        groups = [rng.random(2000) < 0.2 for _ in range(40)]
        found = means(rng.normal(0, 1, 2000) + rng.normal(0, 0.3, 20)[blocks], groups, blocks)
        outside += bool(((found.low > 0) | (found.high < 0)).any())
    assert outside <= 4


def test_a_group_of_few_days_has_no_interval():
    """A slice that is only there on a few days is not judged, however many rows it has."""
    blocks = np.repeat(np.arange(20), 100)
    found = means(np.ones(2000), [blocks < 3, blocks < 19], blocks)
    assert np.isnan(found.low[0]) and found.low[1] == 1


def test_a_column_of_numbers_forms_tenths_and_missing_ones_a_group():
    """Each row is in exactly one group; numbers as texts are numbers."""
    cells = pd.DataFrame({"age": [*map(str, range(100)), None], "plan": ["a", "b", "", None] * 25 + ["a"]})
    for column, count in (("age", 11), ("plan", 3)):
        groups = groups_of(cells, column)
        assert (np.sum([group.rows for group in groups], axis=0) == 1).all()
        assert (len(groups), groups[-1].value) == (count, "missing")


def test_a_small_slice_has_not_enough_rows():
    """A slice under gates.slices.min_rows is not judged, and the reason names it."""
    rows = rows_of().assign(left=lambda r: (r["spend"] > 0) * 1.0, prediction=0.5)
    rows["region"] = np.where(rows.index < 30, "small", "large")
    verdict = slices.verdict(packaged(model(slices={"columns": ["region"]}), rows))
    assert verdict.passed and "not enough rows: region small" in verdict.reason
    assert [row[-1] for row in verdict.table.rows] == ["ok", "not enough rows"]
    few = slices.verdict(packaged(model(slices={"columns": ["region"], "min_rows": 10_000}), rows))
    assert (few.passed, few.judged, few.word) == (True, False, "no verdict")
    assert "a longer evaluation.holdout_days has more" in few.reason


def test_a_slice_over_its_limit_by_chance_is_not_proven():
    """A slice that is worse by more than its limit, with an interval that has 0, stops nothing and is not called ok."""
    compared = SimpleNamespace(loss="mae", against="version 1", naive_loss="the naive guess's loss")
    loss, gain = (SliceLoss("sex f", 300, 2.0, 1.0, by, (by - 0.3, by + 0.3)) for by in (0.2, -0.2))
    assert not loss.lost(0.1) and loss.row(0.1)[-1] == "not proven" and gain.row(0.1)[-1] == "ok"
    assert "worse by 0.200 [-0.100, 0.500], 300 rows, not proven" in slices.said(compared, [loss], 1, 0.1)
    assert "better by 0.200 [-0.100, 0.500], 300 rows; as" in slices.said(compared, [gain], 1, 0.1)


def test_a_column_with_a_value_for_each_row_is_one_line_and_few_rows_of_the_table():
    """Slices of few rows are counted; the first are named, and no table has thousands of them."""
    rows = rows_of().assign(
        left=lambda r: (r["spend"] > 0) * 1.0, prediction=0.5, who=[f"w{number}" for number in range(2000)]
    )
    verdict = slices.verdict(packaged(model(slices={"columns": ["who", "sex"]}), rows))
    assert verdict.passed and verdict.reason.endswith("not enough rows: who w0, who w1, who w10 and 1,997 more")
    assert len(verdict.table.rows) == 22 and [row[0] for row in verdict.table.rows[:2]] == ["sex f", "sex m"]
    said = fairness.verdict(packaged(model(fairness={"columns": ["who"]}), rows))
    assert said.word == "no verdict" and "who w1000 (1) and 1,995 more; a longer evaluation.holdout_days" in said.reason


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_slices_of_classes_and_numbers(task):
    """A slice on which the model is worse than a guess stops, whatever the task."""
    rows = rows_of()
    bad = (rows["sex"] == "f").to_numpy()
    if task == "regression":
        rows = rows.assign(left=rows["spend"], prediction=np.where(bad, -3 * rows["spend"], rows["spend"]))
        settings, classes = model(task, "mae", slices={"columns": ["sex"]}), ()
    else:
        classes = ("a", "b", "c")
        label = np.array(classes, object)[np.arange(len(rows)) % 3]
        right = np.where(bad, (np.arange(len(rows)) + 1) % 3, np.arange(len(rows)) % 3)
        likely = np.full((len(rows), 3), 0.1)
        likely[np.arange(len(rows)), right] = 0.8
        rows = rows.assign(left=label, prediction=0.8, probabilities=[*likely])
        settings = model(task, "log_loss", slices={"columns": ["sex"]})
    verdict = slices.verdict(packaged(settings, rows, classes))
    assert verdict.stops and "sex f" in verdict.reason and "sex m" not in verdict.reason
    assert verdict.interval[0] > 0


def decided(biased, count=4000):
    rows = rows_of(count)
    favoured = biased & (rows["sex"] == "m")
    return rows.assign(left=(rows["spend"] > 0) * 1.0, prediction=np.where((rows["spend"] > 0.5) | favoured, 0.9, 0.1))


def test_groups_that_are_decided_otherwise_are_named_with_the_measure():
    """A biased column stops by both measures, an even one by none, and the figures are Fairlearn's."""
    from fairlearn.metrics import demographic_parity_difference

    settings, rows = model(fairness={"columns": ["sex"]}), decided(biased=True)
    verdict = fairness.verdict(packaged(settings, rows))
    assert verdict.stops and verdict.interval[0] > 0.1
    assert "sex: demographic parity of 1 differs by" in verdict.reason and "equalised odds" in verdict.reason
    expected = demographic_parity_difference(rows["left"], rows["prediction"] > 0.5, sensitive_features=rows["sex"])
    assert verdict.table.rows[0][3] == pytest.approx(expected)
    assert not fairness.verdict(packaged(settings, decided(biased=False))).stops


def test_fairness_of_few_rows_is_no_verdict():
    """Small groups are said; a difference that chance makes stops nobody."""
    settings, rows = model(fairness={"columns": ["sex"]}), decided(biased=False, count=150)
    small = fairness.verdict(packaged(settings, rows))
    assert small.word == "no verdict" and "not enough rows (gates.fairness.min_rows): sex f" in small.reason
    tight = {"columns": ["sex"], "demographic_parity": 0.0001, "equalised_odds": None, "min_rows": 10}
    unproven = fairness.verdict(packaged(model(fairness=tight), rows))
    assert (
        unproven.word == "no verdict"
        and "not proven on these rows, a longer evaluation.holdout_days" in unproven.reason
    )


def test_the_decision_has_the_name_of_the_label_that_counts_as_one():
    """Of a target of two labels the report says which of them is decided, and no number that nobody gave it."""
    settings, rows = model(fairness={"columns": ["sex"]}), decided(biased=True)
    labelled = settings.model_copy(update={"training": settings.training.model_copy(update={"positive": "ja, klar"})})
    verdict = fairness.verdict(packaged(labelled, rows))
    assert "parity of ja, klar differs by" in verdict.reason and {row[1] for row in verdict.table.rows} == {"ja, klar"}


def test_a_group_without_a_row_of_an_answer_has_no_share_of_it():
    """No yes in a group is no unfair no: its share is unknown, not 0; rows of no weight form no group at all."""
    rows = decided(biased=False)
    third = np.arange(len(rows)) % 3 == 0
    rows = rows.assign(sex=rows["sex"].where(~third, "x"))
    rows.loc[third, ["left", "prediction"]] = 0.0, 0.1
    odds = {"columns": ["sex"], "demographic_parity": None}
    assert fairness.verdict(packaged(model(fairness=odds), rows)).passed
    settings = model(fairness={"columns": ["sex"]})
    unweighted = settings.model_copy(update={"training": settings.training.model_copy(update={"weight": "w"})})
    said = fairness.verdict(packaged(unweighted, rows.assign(w=np.where(third, 0.0, 1.0))))
    assert said.passed and said.reason.endswith("not enough rows (gates.fairness.min_rows): sex x (0)")


def test_a_slice_of_a_root_of_squares_has_that_root():
    """Beside `rmse` stand figures in the target's unit, and the shares say that they are of the mean square."""
    rows = rows_of().assign(left=0.0, prediction=3.0)
    said = slices.verdict(packaged(model("regression", "rmse", slices={"columns": ["sex"]}), rows))
    assert "rmse 3 against" in said.reason and "as shares of the naive guess's mean square" in said.reason


def test_fairness_of_classes_names_the_decision():
    """Of several classes each is a decision, and the one that differs is named."""
    rows = rows_of(3000)
    place = np.where(rows["sex"] == "m", 2, np.arange(len(rows)) % 2)
    rows = rows.assign(left="b", prediction=1.0, probabilities=[*np.eye(3)[place]])
    verdict = fairness.verdict(
        packaged(model("multiclass", "log_loss", fairness={"columns": ["sex"]}), rows, ("a", "b", "c"))
    )
    assert verdict.stops and "demographic parity of c differs by 1.000" in verdict.reason


def test_a_class_whose_probability_never_moves_is_named():
    """Of several classes one that has the same probability in all rows warns, while the others tell rows apart."""
    rows, half = rows_of(), np.random.default_rng(1).random(2000) / 2
    for constant, word in ((np.full(2000, 0.1), "warned"), (half * 0.2, "passed")):
        answered = np.column_stack([half, 1 - constant - half, constant])
        given = rows.assign(left="a", prediction=1.0, probabilities=[*answered])
        verdict = constant_prediction.verdict(packaged(model("multiclass", "log_loss"), given, ("a", "b", "c")))
        assert verdict.word == word and ("the same probability of c;" in verdict.reason) is (word == "warned")


def test_how_far_answers_go_is_one_for_perfect_and_nothing_for_a_guess():
    """Ranks, classes and numbers are each on the way from a guess to a perfect score."""
    target = np.array([0.0, 1.0, 1.0, 0.0])
    assert skill(target, Answers(target / 10)) == 1 and skill(target, Answers(np.full(4, 0.5))) == 0
    labels = np.array(["a", "b", "b", "c"], object)
    assert skill(labels, Answers(np.eye(3)[[0, 1, 1, 2]], ("a", "b", "c"))) == 1
    assert skill(np.array([1.0, 2.0, 3.0]), Answers(np.full(3, 2.0))) == 0


def test_numbers_out_of_range_warn_unless_the_limit_is_stated():
    """A feature that grows is no fault by default; a calendar feature is left out."""
    held, learnt = rows_of(), rows_of(seed=1)
    held["spend"] += 50
    found = [
        unknown_ranges.verdict(packaged(model(**gates), held, reference=learnt))
        for gates in ({}, {"unknown_ranges": 0.2})
    ]
    assert [verdict.word for verdict in found] == ["warned", "FAILED"]
    calendar = {"contract": {"columns": {"spend": {"calendar": True}}}}
    assert unknown_ranges.verdict(packaged(model(**calendar), held, reference=learnt)).passed


FAULTS = {
    "gates.slices.columns: left is the target": {"slices": {"columns": ["left"]}},
    "gates.fairness.columns: named twice: plan": {"fairness": {"columns": ["plan", "plan"]}},
    "gates.fairness.columns: seen_at is a time": {"fairness": {"columns": ["seen_at"]}},
    "gates.slices.columns: Plan is the column plan": {"slices": {"columns": ["Plan"]}},
    "gates.sanity.known_before: names no feature: sex": {"sanity": {"known_before": ["sex"]}},
    "gates.slices.limit: Input should be greater than 0": {"slices": {"limit": 0}},
}


@pytest.mark.parametrize("line", FAULTS)
def test_a_column_that_forms_no_groups_is_one_line(line):
    """Settings that name a wrong column are refused when params.yaml is read."""
    key, _, what = line.partition(": ")
    with pytest.raises(ValueError, match=rf"{key}\s+{what}"):
        Model.model_validate({**CHURN, "gates": {**CHURN["gates"], **FAULTS[line]}})


def test_fairness_of_a_number_is_refused():
    """Decisions are made on probabilities; a task of numbers has slices."""
    with pytest.raises(ValueError, match="name the columns in gates.slices"):
        model("regression", "mae", fairness={"columns": ["sex"]})


@pytest.mark.parametrize("kind", ["query", "files"])
def test_a_column_for_gates_alone_is_kept_with_the_snapshot(project, kind, monkeypatch):
    """The snapshot has it as text and the model does not take it; one that the source has not is one line with the key."""
    monkeypatch.setenv("PERENNIAL_HOME", str(project / "home"))
    (project / ".dvc").mkdir()
    (project / ".dvc" / "config").write_text("[core]\n    no_scm = true\n")
    rows = customers()
    rows["age"] = np.arange(len(rows)) % 50
    rows.to_parquet(project / "customers" / "all.parquet")
    settings = yaml.safe_load((project / "params.yaml").read_text())
    block = settings["models"]["churn"]
    if kind == "files":
        block["source"] = {k: v for k, v in block["source"].items() if k != "query"} | {
            "files": ["customers/*.parquet"]
        }
    block["gates"]["slices"] = {"columns": ["age", "plan"]}
    (project / "params.yaml").write_text(json.dumps(settings))
    stages.run("snapshot", "churn")
    kept = pd.read_parquet(next(Artifacts(project, "churn").snapshot.glob("*.parquet")))
    assert set(kept["age"]) <= {str(age) for age in range(50)} and "age" not in load(project).model("churn").columns
    block["gates"]["slices"] = {"columns": ["gender"]}
    (project / "params.yaml").write_text(json.dumps(settings))
    with pytest.raises(
        DataError, match="models.churn.gates.slices.columns: names gender, which the source does not have"
    ):
        stages.run("snapshot", "churn")


@pytest.fixture
def logged(churn_artifacts, tmp_path):
    """The settings, and a context whose live version has answered some requests."""
    runtime = Runtime.load(churn_artifacts.package)
    rows = customers()[["spend", "calls", "plan"]].astype(object).head(300)
    parsed = runtime.reader.of_records(rows.where(rows.notna(), None).to_dict("records"))
    folder = predictions_folder(tmp_path, "churn")
    folder.mkdir(parents=True)
    at = (NOW - timedelta(days=1)).timestamp()
    table = LogSchema(runtime.reader, "1", "blue", None, bytes(32)).table(
        [AnsweredRequest("r", at, parsed, runtime.predict(parsed), False)]
    )
    log_files.write(folder / log_files.file_name("blue-v1-7.1", 1, 1), table)
    registry = SimpleNamespace(reference_file=lambda *_: churn_artifacts.reference)
    return SimpleNamespace(home=tmp_path, ledger=ledger_of(tmp_path), registry=registry, clock=lambda: NOW), runtime


def test_churn_goes_by_the_requests_that_the_live_version_answered(logged):
    """Both packages answer the logged rows: the same package flips none, and another one as many as its answers say."""
    context, runtime = logged
    settings = Model.model_validate(
        {**CHURN, "gates": {**CHURN["gates"], "slices": {"columns": ["plan"]}, "churn": {"limit": 0.1, "min_rows": 50}}}
    )
    known = live_facts.live_facts(context, "churn", settings, LiveVersion("1", "blue", None, ""))
    assert (len(known.requests), known.no_requests) == (300, "")
    same = PackagedModel(settings, {}, None, None, runtime, runtime, "1", live=known)
    assert (churn.verdict(same).passed, churn.verdict(same).observed) == (True, 0)
    other = SimpleNamespace(
        task=runtime.task,
        classes=(),
        reader=runtime.reader,
        predict_logged=lambda rows: 1 - runtime.predict_logged(rows),
    )
    verdict = churn.verdict(replace(same, package=other))
    assert verdict.stops and verdict.observed > 0.9
    assert {row[0] for row in verdict.table.rows} == {"all", "plan basic", "plan plus"}


@pytest.mark.parametrize("requests", [None, 30])
def test_churn_without_requests_is_no_verdict(logged, requests):
    """A live version that answered nobody, or few, stops no run and says so."""
    context, runtime = logged
    settings = Model.model_validate(CHURN)
    live = LiveVersion("1" if requests else "9", "blue", None, "")
    known = live_facts.live_facts(context, "churn", settings, live)
    known = LiveFacts(known.requests.head(requests) if requests else None, known.no_requests)
    verdict = churn.verdict(PackagedModel(settings, {}, None, None, runtime, runtime, "1", live=known))
    assert (verdict.word, verdict.passed) == ("no verdict", True)
    told = "30 requests recorded, at least 200" if requests else "version 9 has answered no request in 30 days"
    assert told in verdict.reason
