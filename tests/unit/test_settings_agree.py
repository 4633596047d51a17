"""All faults of a model's block are told at once, each with its key, and what cannot work is refused when it is read."""

import copy
import json
import re

import pytest
import yaml

from harness.project import CHURN, ROOT, change_params
from pipeline.monitoring import live_quality
from pipeline.runs.dag_settings import _remembered
from pipeline.settings import agreement, yaml_file
from pipeline.settings.columns import BESIDE_FEATURES, RESERVED
from pipeline.settings.examples import EXAMPLES, example
from pipeline.settings.models import Model, ParamsFile, load
from pipeline.settings.rollout import Rollout
from pipeline.settings.section import RECORDED
from pipeline.workspaces import dvc_graph

NAN, INF = float("nan"), float("inf")


def told(project) -> list[str]:
    """The lines about the block of churn; none when it is right."""
    fault = load(project).broken.get("churn")
    return str(fault).splitlines() if fault else []


def changed(project, key, value) -> list[str]:
    change_params(project, f"models.churn.{key}", value)
    return told(project)


def without(project, key) -> list[str]:
    """The lines about the block without one key."""
    settings = yaml.safe_load((project / "params.yaml").read_text())
    *parents, last = key.split(".")
    at = settings["models"]["churn"]
    for part in parents:
        at = at[part]
    del at[last]
    (project / "params.yaml").write_text(yaml.safe_dump(settings))
    return told(project)


def required(section, at):
    """The keys that a section must have."""
    for name, field in section.model_fields.items():
        if field.is_required() and hasattr(field.annotation, "model_fields"):
            yield from required(field.annotation, f"{at}{name}.")
        elif field.is_required():
            yield f"{at}{name}"


def test_features_that_no_drift_check_sees_are_not_counted(project):
    """A limit of moved features that is reached with personal ones only is refused: drift checks leave these out."""
    assert changed(project, "monitor.features_limit", 3) == []
    (line,) = changed(project, "rollout.serving.personal", {"plan": "hash", "customer": "hash"})
    assert "monitor.features_limit: is 3, but the model has 2 features without the personal ones" in line


def test_all_that_is_wrong_or_missing_is_told_at_once(project):
    """A block with several faults gives a line for each, with its key; missing ones come with an example."""
    without(project, "source.event_time")
    without(project, "schedule")
    changed(project, "monitor.cron", "0 0 31 2 *")
    changed(project, "gates.metric_limit", NAN)
    changed(project, "evaluation.holdout_days", 40)
    lines = changed(project, "training.option", {})
    assert all(line.startswith("params.yaml: ") and line.endswith("docs/params.md lists every key") for line in lines)
    for expected in (
        "missing key models.churn.schedule (for example schedule: {cron: ",
        "missing key models.churn.source.event_time (for example event_time: seen_at)",
        "unknown key models.churn.training.option;",
        "models.churn.evaluation.holdout_days: evaluation.holdout_days must be shorter",
        "models.churn.gates.metric_limit: must be a finite number; got nan",
        "models.churn.monitor.cron: day '31', month '2'",
    ):
        assert any(expected in line for line in lines), lines
    assert len(lines) == 6


@pytest.mark.parametrize("key", ["as_of", "source.event_time", "training.target", "monitor.cron"])
def test_one_missing_key_is_one_line_with_an_example(project, key):
    """A block that lacks one key gives one line with an example for it."""
    assert f"missing key models.churn.{key} (for example {key.rpartition('.')[2]}: " in without(project, key)[0]


def test_the_examples_are_settings():
    """Each required key has an example, no other key has one, and the examples together are the smallest right settings."""
    shared = yaml.safe_load("\n".join(map(example, ("prices", "baseline"))))
    model = yaml.safe_load(example("models.m"))["m"]
    read = ParamsFile.model_validate(shared | {"models": {"m": model}})
    assert read.models["m"].training.features == ["price", "weight"]
    needed = {*required(Model, "models.NAME."), *required(ParamsFile, "")} - {"models"}
    assert needed | {"models.NAME.source.query", "models.NAME.training.numeric"} == set(EXAMPLES)


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("as_of", "1700000000", "as_of: write it like 2013-04-01T00:00:00Z"),
        ("schedule.end", "2023-01-01T00:00:00Z", "schedule.end: must be after schedule.start"),
        (
            "schedule.queues",
            {"trian": "big"},
            "schedule.queues: no step is called trian; the steps are snapshot, ",
        ),
        ("schedule.queues", {"train": "a,b"}, "schedule.queues.train: a queue has up to 64 letters"),
        ("source.hook", "orders", "source.hook: must be written as module:function"),
        ("source.hook", "orders:rows", "source: give one of query, files and hook"),
        ("source.key", "", "source.key: must be the name of a column; got an empty one"),
        ("source.key", "a\nb", "source.key: the column 'a\\nb' has a line break"),
        ("source.key", "Left", "training.target: left is the key already"),
        (
            "source.event_time",
            "Customer",
            "source.event_time: Customer is the column customer: write it as source.key does",
        ),
        ("source.label_time", "Prediction", "source.label_time: Prediction is a name that the stages use"),
        ("source.window_days", True, "source.window_days: must not be true"),
        ("training.target", "seen_at", "training.target: seen_at is a time already"),
        ("training.numeric", "spend", "training.numeric: must be a list, like [a, b]"),
        ("training.numeric", ["spend", "calls", "SPEND"], "training: named twice: SPEND"),
        (
            "training.numeric",
            ["spend", "Version"],
            "training.numeric: Version is a name that the monitor uses and cannot be",
        ),
        ("training.datetime", "since", "training.datetime: must be a list, like [a, b]"),
        ("training.datetime", ["since", "Spend"], "training: named twice: Spend"),
        ("training.datetime", ["seen_at"], "training.datetime: seen_at is the key or a time and cannot be a feature"),
        ("training.datetime", ["decided_at"], "training.datetime: decided_at is the key or a time and cannot be"),
        ("training.text", ["customer"], "training.text: customer is the key or a time and cannot be a feature"),
        ("training.text", ["left"], "training: the target left may not be a feature"),
        ("training.text", ["note", "plan"], "training: named twice: plan"),
        ("training.text", ["unread"], "training.text: unread is a name that the stages use and cannot be a feature"),
        (
            "training",
            {"target": "left", "numeric": ["Note words"], "text": ["note"]},
            "training.text: note becomes the number note words, and a feature is called so; rename one of them",
        ),
        (
            "training",
            {"target": "left", "categorical": ["Since Days"], "datetime": ["since"]},
            "training.datetime: since becomes the number since days, and a feature is called so; rename one of them",
        ),
        (
            "training",
            {"target": "left", "numeric": [], "datetime": [], "text": []},
            "training: name at least one feature, numeric, datetime, text or categorical, for example numeric: [price",
        ),
        ("training.estimator", "magic", "training.estimator: must be one of linear, forest, boosting, hist_gradient_"),
        (
            "training.estimator",
            "sklearn.svm.SVR",
            "training.estimator: sklearn.svm.SVR is no classifier, which the task",
        ),
        (
            "training.estimator",
            "sklearn.svm.LinearSVC",
            "training.estimator: sklearn.svm.LinearSVC gives no probabilit",
        ),
        ("training.calibration", "platt", "training.calibration: "),
        ("training.positive", [], "training.positive: must be text, a number, true or false"),
        ("training.calendar", "age", "training.calendar: must be a list, like"),
        ("training.calendar", ["a"], "training.calendar.0: Input should be 'hour', 'weekday', 'month', 'year_day'"),
        ("training.estimator", "my-own:f", "training.estimator: must be written as module:function"),
        (
            "training.options",
            {"max_itr": 3},
            "training.options: hist_gradient_boosting has no option max_itr; it has categorical_",
        ),
        ("training.options", {"random_state": 3}, "training.options: random_state is training.seed"),
        (
            "training.options",
            {"tol": [1]},
            "training.options: tol of hist_gradient_boosting must be text, a number, true or",
        ),
        ("training.options", {"tol": {"a": 1}}, "training.options.tol: must be text, a number, true or false"),
        (
            "training.options",
            {"monotonic_cst": [{}]},
            "training.options.monotonic_cst: must be text, a number, true or",
        ),
        ("training.seed", -1, "training.seed: "),
        ("training.seed", True, "training.seed: must not be true"),
        (
            "evaluation.golden_rows",
            20_000,
            "evaluation.golden_rows: is 20,000, but a request may have rollout.serving.max_rows",
        ),
        ("evaluation.reference_rows", 10**20, "evaluation.reference_rows: "),
        ("gates.metric_limit", 60, "gates.metric_limit: roc_auc is at most 1, so 60 is never reached"),
        ("gates.metric_limit", NAN, "gates.metric_limit: must be a finite number; got nan"),
        ("gates.baseline_margin", 2, "gates.baseline_margin: roc_auc is at most 1"),
        ("gates.champion_tolerance", 2, "gates.champion_tolerance: roc_auc is at most 1, so 2 stops nothing"),
        ("gates.contract.rows_a_day", [3, 0.3], "rows_a_day: must be [low, high] with 0 <= low <= high; got [3, 0.3]"),
        ("gates.contract.rows_a_day", [NAN, 3], "rows_a_day: must be a finite number"),
        ("gates.contract.columns.spend", {"min": 5, "max": 1}, "columns.spend: min and max: 5 is above 1"),
        ("gates.contract.columns.spend", {"min": 3, "allowed": [1, 4]}, "allowed: 1 is outside of min and max"),
        ("gates.contract.columns.spend", {"type": "integer", "allowed": [1, 0.5]}, "allowed: 0.5 is no whole number"),
        (
            "gates.contract.columns.spend",
            {"type": "boolean", "allowed": [1, 2]},
            "allowed: 2 is neither true nor false",
        ),
        ("gates.contract.columns.spend", {"type": "boolean", "min": 2}, "min and max: neither 0 nor 1 is between them"),
        ("gates.contract.columns.left", {"allowed": [0, 1, 2]}, "columns.left: allowed: 2 is no label of task binary"),
        ("gates.contract.columns.spend", {"min": INF}, "columns.spend.min: must be a finite number"),
        ("gates.contract.columns.spend", {"allowed": [NAN]}, "columns.spend.allowed: must be a finite number"),
        ("gates.contract.columns.plan", {"allowed": []}, "columns.plan: allowed: is an empty list"),
        ("monitor.window_days", 1e9, "monitor.window_days: "),
        ("monitor.missing_limit", 10, "monitor.missing_limit: "),
        ("monitor.features_limit", 9, "monitor.features_limit: is 9, but the model has 3 features"),
        ("rollout.hold_s", INF, "rollout.hold_s: must be a finite number"),
        ("rollout.keep_hours", 1e15, "rollout.keep_hours: must be at most 876,000"),
        ("rollout.canary_percent", True, "rollout.canary_percent: must not be true"),
        ("rollout.serving.request_s", 1e12, "rollout.serving.request_s: must be at most 86,400"),
    ],
)
def test_what_would_fail_later_is_refused_when_it_is_read(project, key, value, line):
    """A setting that would fail minutes into a run, in Airflow or at a deploy, or would never do anything, gives one line."""
    assert any(line in told for told in changed(project, key, value))


def leaves(section, at=""):
    """All keys of a section and of those in it."""
    for name, field in section.model_fields.items():
        if hasattr(field.annotation, "model_fields"):
            yield from leaves(field.annotation, f"{at}{name}.")
        else:
            yield f"{at}{name}"


NEVER_RIGHT = (True, NAN, INF, [[1]])


def test_any_wrong_value_of_any_key_is_a_line_and_no_traceback(project):
    """A value of each sort at each key is read or refused with the key; NaN and nested lists are right nowhere, a truth is a label."""
    settings = yaml.safe_load((project / "params.yaml").read_text())
    cases = [(key, value) for key in leaves(Model) for value in (*NEVER_RIGHT, None, "x" * 1000)]
    for number, (key, value) in enumerate(cases):
        *parents, last = key.split(".")
        at = settings["models"][f"case-{number}"] = copy.deepcopy(CHURN)
        for part in parents:
            at = at.setdefault(part, {})
        at[last] = value
    # JSON is YAML but for its numbers that are none, and is written in a tenth of the time.
    written = json.dumps(settings).replace("NaN", ".nan").replace("Infinity", ".inf")
    (project / "params.yaml").write_text(written)
    read = load(project)
    for number, (key, value) in enumerate(cases):
        fault = read.broken.get(f"case-{number}")
        a_truth = value is True and key in ("training.positive", "evaluation.refit", "evaluation.explain")
        assert (fault is None) == a_truth or value not in NEVER_RIGHT, (key, value)
        for line in str(fault).splitlines() if fault else []:
            assert line.startswith("params.yaml: "), (key, line)
            assert len(line) < 800, (key, line)
            assert f"models.case-{number}." in line, (key, line)


def test_the_claims_and_shared_settings_go_from_low_to_high(project):
    """The claims of `roi` must be from low to high, and not below 0."""
    change_params(project, "baseline.manual_engineer_hours_per_deployment", [16, 8])
    change_params(project, "prices", {"cpu_core_hour": INF})
    faults = load(project).faults
    assert "must be [low, high] with 0 <= low <= high; got [16, 8]" in str(faults["baseline"])
    assert [line.split("; correct")[0] for line in str(faults["prices"]).splitlines()] == [
        "params.yaml: prices.cpu_core_hour: must be a finite number; got inf",
        "params.yaml: missing key prices.memory_gb_hour (for example memory_gb_hour: 0.006)",
        "params.yaml: missing key prices.engineer_hour (for example engineer_hour: 95)",
    ]


def test_steps_with_queues_are_the_steps_of_a_run():
    """The steps that `schedule.queues` may name are the stages of dvc.yaml, and the tasks of dags/retrain.py around them."""
    assert list(agreement.STAGES) == list(dvc_graph.order(ROOT))
    named = re.findall(r'step\("(\w+)"', (ROOT / "dags" / "retrain.py").read_text())
    assert {*named} == {*agreement.AROUND}


def test_a_stage_that_a_project_adds_can_have_a_queue(project):
    """A step that is a stage of the project's own dvc.yaml is a step; without that file the usual stages are."""
    written = yaml.safe_load((project / "dvc.yaml").read_text())
    written["stages"]["explain"] = {"foreach": "${models}", "do": {"cmd": "true"}}
    (project / "dvc.yaml").write_text(yaml.safe_dump(written))
    assert changed(project, "schedule.queues", {"explain": "big", "settle": "small"}) == []
    (project / "dvc.yaml").write_text("stages: [")
    assert "no step is called explain" in told(project)[0]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("NO", "NO"),
        ("on", "on"),
        ("1e-5", 1e-5),
        ("010", "010"),
        ("1:30", "1:30"),
        ("true", True),
        ("-3", -3),
        (".5", 0.5),
    ],
)
def test_values_are_read_as_dvc_reads_them(tmp_path, written, value):
    """A file that people write is read by YAML 1.2, as DVC reads it; a number with a zero before it stays text."""
    (tmp_path / "params.yaml").write_text(f"a: {written}\n")
    assert yaml_file.mapping(tmp_path / "params.yaml") == {"a": value}


def test_a_countrys_name_is_no_truth_value(project):
    """`allowed: [NO, SE]` lists two texts."""
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("- basic\n", "- NO\n"))
    assert load(project).model("churn").gates.contract.columns["plan"].allowed == ("NO", "plus")


def test_what_is_live_goes_on_by_settings_that_a_stricter_rule_refuses(tmp_path):
    """Settings that were right when they were recorded are read, for a slot that is live and for a Dag's schedule."""
    recorded = Rollout().model_dump(mode="json") | {"hold_s": INF, "bake_s": 1e9}
    assert Rollout.model_validate(recorded, context=RECORDED).hold_s == INF
    file = tmp_path / "dag-settings.json"
    schedule = {"cron": "0 0 * * fri-mon", "start": "2024-01-01T00:00:00Z", "queues": {"trian": "big"}}
    file.write_text(json.dumps({"m": {"schedule": schedule, "monitor_cron": "0 0 31 2 *"}}))
    assert _remembered(file).settings["m"].schedule.cron == "0 0 * * fri-mon"


LATE = "labels come 10 days after their rows (source.label_delay_days)"
NO_HELD_OUT = (
    f"models.churn.evaluation.holdout_days: is 7 days, but {LATE}: of the held-out rows none has a label; "
    "set more than 10 days and less than source.window_days, 30"
)
NO_WATCH = (
    f"models.churn.rollout.watch_days: is 8 days, but {LATE}: of a new champion's rows none has one by then; "
    "set more than 10 days, or 0 for no watch"
)
NO_WINDOW = (
    f"models.churn.source.window_days: is 9 days, but {LATE}: of its rows none has a label at the as-of; "
    "set more than 10 days, and evaluation.holdout_days, now 7, in between"
)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [NO_HELD_OUT]),
        ({"rollout.watch_days": 8}, [NO_HELD_OUT, NO_WATCH]),
        ({"evaluation.holdout_days": 11, "rollout.watch_days": 10.5}, []),
        ({"evaluation.holdout_days": 11, "rollout.watch_days": 0}, []),
        ({"evaluation.holdout_days": 10}, [NO_HELD_OUT.replace("is 7", "is 10")]),
        ({"source.window_days": 9}, [NO_WINDOW]),
        # Live quality looks at the rows whose labels have matured.
        ({"evaluation.holdout_days": 11, "monitor.window_days": 1}, []),
    ],
)
def test_spans_that_no_label_can_reach_are_refused_with_their_numbers(project, settings, expected):
    """With labels that come after ten days: the held-out days, the watch after a rollout and the whole window must be longer."""
    change_params(project, "models.churn.source.label_delay_days", 10)
    for key, value in settings.items():
        change_params(project, f"models.churn.{key}", value)
    lines = told(project)
    assert [line.removeprefix("params.yaml: ").partition("; correct it there")[0] for line in lines] == expected


def test_a_block_without_a_stated_delay_is_as_before(project):
    """Nothing is refused for a delay that nobody has stated, nor for labels that come at once."""
    assert changed(project, "rollout.watch_days", 0.01) == []
    assert changed(project, "source.label_delay_days", 0) == []
    assert "models.churn.source.label_delay_days" in changed(project, "source.label_delay_days", -1)[0]


def test_a_block_that_is_right_has_no_faults():
    """The model of the tests and its smallest form are right."""
    assert agreement.faults(Model.model_validate(copy.deepcopy(CHURN))) == []


def test_no_feature_has_the_name_of_a_column_that_the_monitor_adds(tmp_path):
    """The columns that the monitor has beside the features, its own and those of labels, are names that no feature may have."""
    model = Model.model_validate(CHURN)
    beside = {*live_quality.predictions(tmp_path, model, model.as_of, model.as_of).columns} - {*model.training.features}
    assert beside | {*live_quality.NO_LABELS.columns, "is_golden"} <= RESERVED | BESIDE_FEATURES


def test_an_unknown_gate_in_the_modes_is_refused_by_name(project):
    """One line has the name and the gates that there are, the model's own among them."""
    assert changed(project, "gates.modes", {"champion": "off", "schema": "warn"}) == []
    (line,) = changed(project, "gates.modes", {"champoin": "warn"})
    assert "models.churn.gates.modes: no gate is called champoin; the gates are enough_rows, " in line
    (line,) = changed(project, "gates.modes", {"checks:mine": "off"})
    assert "no gate is called checks:mine" in line
    assert changed(project, "gates.own", ["checks:mine"]) == []
