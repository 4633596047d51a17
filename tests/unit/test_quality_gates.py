"""Quality is judged with intervals, beside the strongest naive guess, and beside the champion on rows that neither was trained on."""

import json
import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from harness.model_pairs import World
from harness.project import CHURN, churn_rows
from pipeline.gates import champion, naive_baseline, resampled, run, slices, time_blocks
from pipeline.gates.base import PackagedModel
from pipeline.gates.judged_champion import JudgedChampion
from pipeline.gates.naive_guesses import naive_guesses
from pipeline.gates.packaged import packaged_model
from pipeline.settings.model_gates import Slices
from pipeline.settings.models import Model
from pipeline.training import evaluate, fit, package, skops_file
from pipeline.training.tasks import TASKS, Answers
from pipeline.workspaces.dvc_graph import Artifacts

CHURN_MODEL = Model.model_validate(CHURN)


def made(folder, rows):
    """What the stages from training on make of `rows`."""
    files = Artifacts(folder, "churn")
    files.folder.mkdir(parents=True)
    skops_file.save(fit.fit(rows, CHURN_MODEL), files.model)
    evaluate.evaluate(CHURN_MODEL, rows, files.model, files.predictions, files.reference, files.metrics)
    package.build("churn", CHURN_MODEL, files.model, files.predictions, files.package)
    report = {"in": len(rows), "kept": len(rows), "quarantined": 0, "held_out": 300, "faults": [], "missing": []}
    files.validation.write_text(json.dumps(report))
    return files


def shuffled(rows, seed=5):
    """The rows with the labels of the training days in any order."""
    known = rows["seen_at"] < CHURN_MODEL.held_out_from
    rng = np.random.default_rng(seed)
    return rows.assign(left=rows["left"].where(~known, rng.permutation(rows["left"])))


@pytest.fixture(scope="module")
def sound(churn_artifacts, tmp_path_factory):
    """Artifacts of a sound model."""
    files = Artifacts(tmp_path_factory.mktemp("sound"), "churn")
    shutil.copytree(churn_artifacts.folder, files.folder)
    report = {"in": 1740, "kept": 1740, "quarantined": 0, "held_out": 300, "faults": [], "missing": []}
    files.validation.write_text(json.dumps(report))
    return files


def stopped(verdicts):
    return {verdict.gate for verdict in verdicts if verdict.stops}


def test_shuffled_labels_are_stopped_by_the_limit_and_the_naive_guess(sound, tmp_path):
    """A sound challenger passes all gates; one that learnt shuffled labels fails these, beside a champion also the comparisons with it, and no other."""
    assert stopped(run.verdicts(CHURN_MODEL, sound, sound.package, "7")) == set()
    guessing = made(tmp_path, shuffled(churn_rows(CHURN_MODEL)))
    assert stopped(run.verdicts(CHURN_MODEL, guessing, None, None)) == {"metric_limit", "naive_baseline"}
    beside = run.verdicts(CHURN_MODEL, guessing, sound.package, "7")
    assert stopped(beside) == {"metric_limit", "naive_baseline", "champion", "automatic_slices"}


def test_a_model_that_is_a_little_better_than_a_guess_by_chance_has_not_beaten_it(sound):
    """Without a margin the gain must be proven: random answers never pass, though half of them score better."""
    lenient = CHURN_MODEL.model_copy(update={"gates": CHURN_MODEL.gates.model_copy(update={"baseline_margin": 0.0})})
    rows, given = pd.read_parquet(sound.predictions), evaluate.Evaluation.read(sound.metrics)
    lucky = []
    for seed in range(12):
        guessed = rows.assign(prediction=np.random.default_rng(seed).random(len(rows)))
        score = TASKS["binary"](None).score("roc_auc", rows.left.to_numpy(), Answers.of(guessed))
        evaluated = replace(given, metrics={"roc_auc": score})
        said = naive_baseline.verdict(
            PackagedModel(lenient, {}, evaluated, guessed, SimpleNamespace(classes=(), reader=None))
        )
        lucky.append(said.observed >= 0)
        assert not said.passed
    assert 2 < sum(lucky) < 12
    assert "by these rows it may be no better than that guess" in said.reason or not lucky[-1]


def test_a_gain_whose_chance_cannot_be_told_is_no_verdict(sound):
    """Where one day has all of a rare label most draws of days lack it: the version goes on, and its gain is not called proven."""
    rows, given = pd.read_parquet(sound.predictions), evaluate.Evaluation.read(sound.metrics)
    rare = rows.assign(left=((rows.seen_at.dt.day == 25) & (rows.index % 7 == 0)).astype(float))
    for better, word in ((0.8, "no verdict"), (-0.8, "FAILED")):
        answered = rare.assign(prediction=np.random.default_rng(1).random(len(rare)) + better * rare.left)
        score = TASKS["binary"](None).score("roc_auc", rare.left.to_numpy(), Answers.of(answered))
        package, evaluated = SimpleNamespace(classes=(), reader=None), replace(given, metrics={"roc_auc": score})
        said = naive_baseline.verdict(PackagedModel(CHURN_MODEL, {}, evaluated, answered, package))
        assert (said.word, said.interval) == (word, None)
        assert ("how much chance is in it cannot be told" in said.reason) is (word == "no verdict")


def test_a_champion_that_had_seen_the_rows_is_compared_on_the_others_alone(sound):
    """It knows the rows by heart up to a time: only later rows count, and with too few of them there is no verdict and no stop."""
    packaged = packaged_model(CHURN_MODEL, sound, sound.package, "7")
    half = datetime(2024, 2, 26, 12, tzinfo=UTC)

    def said(trained_to):
        by_heart = SimpleNamespace(
            reader=packaged.package.reader,
            task="binary",
            classes=(),
            predict_frame=lambda rows: rows.left.where(rows.seen_at < half, rows.prediction).to_numpy(),
        )
        return champion.verdict(replace(packaged, champion=by_heart, champion_trained_to=trained_to))

    assert not said(CHURN_MODEL.held_out_from).passed
    on_others = said(half)
    assert (on_others.word, "on the same 210 rows, which neither" in on_others.reason) == ("passed", True)
    none = said(datetime(2024, 3, 1, tzinfo=UTC))
    assert (none.word, none.stops) == ("no verdict", False)
    assert "0 of the 420 held-out rows are newer, at least 50 required (evaluation.min_holdout_rows)" in none.reason
    unknown = said(None)
    assert unknown.word == "no verdict" and "neither its package nor MLflow says" in unknown.reason


def test_a_champion_is_compared_as_it_was_judged(sound, tmp_path):
    """Its package has learnt from the newest rows, as the candidate's will: both are compared before that, on all rows that neither knew."""
    package_knows_all = {"champion_trained_to": datetime(2024, 3, 1, tzinfo=UTC)}
    packaged = replace(packaged_model(CHURN_MODEL, sound, sound.package, "7"), **package_knows_all)
    assert champion.verdict(packaged).word == "no verdict"
    judged = replace(packaged, judged_champion=JudgedChampion(skops_file.load(sound.model), CHURN_MODEL))
    said = champion.verdict(judged)
    assert (said.word, said.observed) == ("passed", 0.0), "they are one model"
    assert "for version 7 as it was judged on the same 420 rows" in said.reason
    carried = replace(judged, judged_champion=JudgedChampion.read(judged.judged_champion.write(tmp_path)))
    assert champion.verdict(carried) == said, "a team's own gate, in another process, has the same"
    assert np.array_equal(carried.champion_prediction, pd.read_parquet(sound.predictions)["prediction"])
    named = CHURN_MODEL.model_copy(
        update={"gates": CHURN_MODEL.gates.model_copy(update={"slices": Slices(columns=("plan",), min_rows=50)})}
    )
    assert "beside version 7" in slices.verdict(replace(judged, model=named)).reason
    assert "beside the naive guess" in slices.verdict(replace(packaged, model=named)).reason


def test_mlflow_says_for_an_older_package_up_to_when_it_was_trained(sound, tmp_path):
    """The time that the registry knows counts where the manifest has none."""
    old = shutil.copytree(sound.package, tmp_path / "old")
    manifest = json.loads((old / "manifest.json").read_text())
    assert manifest.pop("trained_to") == "2024-02-23T00:00:00+00:00"
    (old / "manifest.json").write_text(json.dumps(manifest))
    verdicts = run.verdicts(CHURN_MODEL, sound, old, "7", champion_trained_to="2024-02-23T00:00:00+00:00")
    said = next(verdict for verdict in verdicts if verdict.gate == "champion")
    assert said.word == "passed" and "on the same 420 rows" in said.reason


EQUAL, WORSE = World("regression", "mae", 0.02, days=14, learnt=6_000), 0.04


@pytest.mark.filterwarnings("error")
def test_of_a_skewed_target_a_model_as_good_is_seldom_stopped():
    """A fit by squares is not at its best in absolute errors, so these move with the rows learnt from; else 13 of 20 would be called better or worse."""
    skewed = World("regression", "mae", 0.06, days=10, a_day=120, learnt=2_400, skewed=True)
    said = [champion.verdict(skewed.pair(number, 0.0, 0.0)) for number in range(20)]
    assert sum(not verdict.passed for verdict in said) <= 2
    assert sum(verdict.interval[0] > 0 for verdict in said) <= 2


@pytest.mark.parametrize("tolerance", [0.0, 0.02])
def test_a_model_as_good_is_seldom_stopped(tolerance):
    """Of models that learnt a new sample as the champion did at most a few are stopped, with a tolerance and without one."""
    said = [champion.verdict(EQUAL.pair(number, 0.0, tolerance)) for number in range(20)]
    assert sum(not verdict.passed for verdict in said) <= (2 if tolerance == 0 else 1)


def test_a_model_worse_by_twice_the_tolerance_is_stopped():
    """In nine of ten pairs at least, with the loss, its interval and the key in the reason."""
    said = [champion.verdict(EQUAL.pair(number, WORSE)) for number in range(20)]
    assert sum(not verdict.passed for verdict in said) >= 18
    told = next(verdict for verdict in said if not verdict.passed)
    assert told.interval[0] < told.observed < told.interval[1] < 0 and told.observed < -0.02
    assert "of the naive guess's mae worse (95 % interval" in told.reason and "gates.champion_tolerance" in told.reason


def test_rows_that_cannot_tell_twice_the_tolerance_give_no_verdict_and_the_way_on():
    """The reason says how many rows would do, and nothing is stopped."""
    said = champion.verdict(replace(EQUAL, tolerance=0.002).pair(2))
    assert (said.word, said.stops) == ("no verdict", False)
    assert "too few rows to tell a model that is worse by twice that: about" in said.reason
    assert "evaluation.holdout_days" in said.reason and "goes on by its other gates" in said.reason
    tells = float(re.search(r"a gates.champion_tolerance of ([\d.]+) gets a verdict from these", said.reason)[1])
    assert champion.verdict(EQUAL.pair(2, tolerance=0.89 * tells)).word == "no verdict"
    assert champion.verdict(EQUAL.pair(2, tolerance=tells)).word == "passed"


def test_the_first_version_says_which_tolerance_its_rows_are_likely_to_tell():
    """Before there is a champion, where the one in params.yaml is smaller; a tolerance of 0, or a larger one, needs no word."""
    told = "many"
    for tolerance, early in ((0.002, True), (0.0, False), (0.5, False)):
        first = champion.verdict(replace(EQUAL.pair(2, tolerance=tolerance), champion=None))
        assert first.word == "passed" and ("may be too few for gates.champion_tolerance 0.002" in first.reason) is early
        told = first.reason if early else told
    likely = float(re.search(r"one of ([\d.]+) is likely to get a verdict", told)[1])
    assert champion.verdict(EQUAL.pair(2, tolerance=likely)).word == "passed"


@pytest.mark.parametrize("task", TASKS)
def test_a_draws_metric_is_that_of_its_rows(task):
    """From sums of blocks each metric is as scikit-learn has it of the rows drawn, with weights, ties and a class never learnt."""
    rng, rows = np.random.default_rng(3), 300
    blocks = time_blocks.of_times(pd.Series(pd.date_range("2024-01-01", periods=rows, freq="1h", tz="UTC")))
    weight, drawn = rng.uniform(0, 2, rows), blocks.drawn()[:3]
    settings = SimpleNamespace(options={}, estimator="boosting", positive=None, target="y", task=task)
    if task == "multiclass":
        target = np.array(["a", "b", "c"], object)[rng.integers(0, 3, rows)]
        shares = rng.dirichlet(np.ones(2), rows).round(1)
        answers = Answers(shares, ("a", "b"))
    else:
        target = rng.integers(0, 2, rows).astype(float)
        answers = Answers(np.clip(target * 0.3 + rng.random(rows), 0.01, 0.99).round(1))
    model = TASKS[task](settings)
    for metric in model.metrics:
        found = resampled.values(model, metric.name, target, answers, weight, blocks, drawn)
        for place, times in enumerate(drawn):
            expected = model.score(metric.name, target, answers, weight * times[blocks.of_row])
            assert found[place] == pytest.approx(expected), metric.name


def test_blocks_are_days_and_for_few_days_slices():
    """Whole days are drawn; rows of three days are cut into twenty slices, also where all rows of a day have one time."""
    times = pd.Series(pd.date_range("2024-01-01", periods=500, freq="1h", tz="UTC"))
    days = time_blocks.of_times(times)
    assert (days.count, days.words, days.of_row[:25].tolist()) == (21, "21 days", [0] * 24 + [1])
    few = time_blocks.of_times(times[:72].dt.floor("D"))
    assert (few.count, few.words, np.bincount(few.of_row).min()) == (20, "20 slices of 3 days", 3)
    assert (days.freedom, few.freedom, time_blocks.of_times(times[:120]).freedom) == (20, 4, 4)
    assert time_blocks.of_times(times[:120]).words == "5 days"


def regression(rows, **evaluation):
    """What the naive guesses are made from, for a regression with these held-out rows."""
    training = CHURN["training"] | {"task": "regression", "estimator": "boosting"}
    model = Model.model_validate(CHURN | {"training": training, "evaluation": CHURN["evaluation"] | {"metric": "mae"}})
    figures = {"rows": len(rows), "trained_rows": 900, "metric": "mae", "baseline": {"mae": 9.0}, "metrics": {}}
    return PackagedModel(model, {}, evaluate.Evaluation(**figures | evaluation), rows, SimpleNamespace(classes=()))


def test_the_last_value_is_the_one_whose_label_was_known():
    """A row's last value is that of the newest row whose label came before it; the first rows have the last one learnt."""
    seen = pd.Series(pd.date_range("2024-02-23", periods=5, freq="1D", tz="UTC"))
    rows = pd.DataFrame({"seen_at": seen, "decided_at": seen + pd.Timedelta(days=1.5), "left": [1.0, 2, 3, 4, 5]})
    naive = {"mean": 2.0, "median": 1.0, "last value": 7.0}
    guesses = naive_guesses(regression(rows, naive=naive))
    assert guesses["last value"].values.tolist() == [7, 7, 1, 2, 3]
    assert guesses["median"].values.tolist() == [1.0] * 5
    at_once = naive_guesses(regression(rows.assign(decided_at=seen), naive=naive))
    assert at_once["last value"].values.tolist() == [7, 1, 2, 3, 4]
    assert "last value" not in naive_guesses(regression(rows.drop(columns="decided_at"), naive=naive)), (
        "nobody knows when"
    )


def test_the_strongest_guess_counts():
    """A forecast that is better than mean and median, and no better than the last value, has beaten nothing."""
    rng, seen = np.random.default_rng(0), pd.date_range("2024-01-01", periods=600, freq="1h", tz="UTC")
    series = pd.Series(np.cumsum(rng.normal(size=600)))
    rows = pd.DataFrame(
        {
            "seen_at": seen,
            "decided_at": seen,
            "left": series,
            "prediction": series.shift(1).fillna(0) + rng.normal(0, 0.3, 600),
        }
    )
    naive = {"mean": float(series.mean()), "median": float(series.median()), "last value": 0.0}
    score = float((rows.left - rows.prediction).abs().mean())
    said = naive_baseline.verdict(regression(rows, naive=naive, metrics={"mae": score}))
    assert not said.passed and "for the last value" in said.reason
    without = {name: value for name, value in naive.items() if name != "last value"}
    beaten = naive_baseline.verdict(regression(rows, naive=without, metrics={"mae": score}))
    assert beaten.passed and beaten.interval[0] > 0


def test_a_model_of_means_that_the_median_beats_is_told_what_to_change():
    """Of a skewed amount the way on is the loss or the metric; of answers near the median, and of a symmetric target, it is neither."""
    rng, seen = np.random.default_rng(0), pd.date_range("2024-01-01", periods=600, freq="1h", tz="UTC")
    amount = np.exp(rng.normal(0, 1.2, 600))
    naive = {"mean": float(amount.mean()), "median": float(np.median(amount))}

    def said(target, answers, of=naive):
        rows = pd.DataFrame({"seen_at": seen, "left": target, "prediction": answers})
        figures = {"metrics": {"mae": float(np.abs(target - answers).mean())}, "baseline": {"mae": 1.2}}
        return naive_baseline.verdict(regression(rows, naive=of, **figures))

    means = said(amount, naive["mean"] * rng.uniform(0.8, 1.2, 600))
    assert not means.passed and "worse (95 % interval" in means.reason
    assert "training.options.loss: absolute_error" in means.reason and "evaluation.metric: rmse" in means.reason
    for other in (
        said(amount, naive["median"] * rng.uniform(0.5, 1.5, 600)),
        said(seen.hour.to_numpy() * 1.0, np.full(600, 11.6), {"mean": 11.5, "median": 11.5}),
    ):
        assert not other.passed and "absolute_error" not in other.reason


def test_blocks_of_many_groups_are_days_or_parts_of_a_few():
    """Twenty days or more are a block each, and fewer are cut into twenty parts of equally many rows."""
    days = pd.Series(pd.date_range("2024-01-01", periods=300, freq="6h", tz="UTC"))
    assert (
        time_blocks.of_times(days, time_blocks.MANY).count
        == len(set(time_blocks.of_times(days, time_blocks.MANY).of_row))
        == 38
    )
    of_ten_days = time_blocks.of_times(days.head(40), time_blocks.MANY)
    assert (of_ten_days.words, np.bincount(of_ten_days.of_row).tolist()) == ("20 slices of 10 days", [2] * 20)
