"""params.yaml: typed, frozen, and refused by the name of the key that is wrong."""

import re

import pytest
import yaml

from harness.project import CHURN, ROOT, change_params, write_params
from pipeline.errors import SettingsError
from pipeline.services import router_config
from pipeline.settings.economics import Economics
from pipeline.settings.models import ParamsFile, load, refuse_unknown, time_of
from pipeline.settings.rollout import FIGURES, RolloutLimits, Serving


def test_the_projects_own_params_are_valid():
    """The params.yaml of this repository is valid."""
    read = load(ROOT)
    assert (list(read.models), read.broken, read.faults) == (["flight-delay"], {}, {})


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("models.churn.source.windowdays", 3, "unknown key models.churn.source.windowdays"),
        ("speed", "high", "unknown key speed"),
        ("models.churn.gates.metric_limit", "good", "models.churn.gates.metric_limit"),
        ("models.churn.evaluation.metric", "mae", "does not fit the task binary"),
        ("models.churn.evaluation.holdout_days", 30, "shorter than source.window_days"),
        ("models.churn.training.numeric", ["spend", "calls", "left"], "the target left may not be a feature"),
        ("models.churn.source.query", "SELECT 1", "must use $start and $end"),
        ("models.churn.source.files", ["a.csv"], "models.churn.source: give one of query, files and hook"),
        ("models.churn.source.files", [], "name at least one file, like data/*.csv"),
        (
            "models.churn.source.files",
            ["s3://b/a.csv"],
            "s3://b/a.csv: files are on a disk; read an address with query",
        ),
        ("models.churn.source.files", ["a.xlsx"], "a.xlsx: must end in .csv, .csv.gz or .parquet"),
        ("models.churn.source.files", ["a.csv", "b.parquet"], "names both CSV and Parquet"),
        ("models.churn.source.csv", {"delimiter": "0"}, "models.churn.source.csv: delimiter: '0' is part of values"),
        ("models.churn.source.csv", {"decimal": ","}, "delimiter and decimal are both a comma"),
        (
            "models.churn.source.csv",
            {"encoding": "cp1252"},
            "must be utf-8 or latin-1; got cp1252. `iconv -f cp1252",
        ),
        ("models.churn.training.numeric", ["spend", "calls", "unread"], "unread is a name that the stages use"),
        ("models.churn.gates.contract.columns", {"age": {}}, "names no feature, key or target: age"),
        ("models.churn.gates.contract.columns", {"plan": {"min": 1}}, "columns.plan: min and max: are for numbers"),
        ("models.churn.gates.contract.columns", {"spend": {"allowed": ["a"]}}, "columns.spend: allowed: lists text"),
        ("models.churn.gates.contract.columns", {"spend": {"type": "text"}}, "columns.spend: type: text does not fit"),
        ("models.churn.training.numeric", ["spend", "calls", "prediction"], "prediction is a name that the stages use"),
        ("models.churn.training.numeric", ["spend", "calls", "decided_at"], "decided_at is the key or a time"),
        ("models.churn.rollout.follow", "x customer", "follow must be the name of a request header or body:COLUMN"),
        ("models.churn.rollout.follow", "body:nobody", "rollout.follow: names no feature or key: nobody"),
        (
            "models.churn.rollout",
            {"strategy": "canary", "limits": dict.fromkeys(FIGURES)},
            "strategy canary would judge nothing, since all of limits.error_rate, limits.refusal_rate, limits.p99_ms",
        ),
        ("models.churn.rollout.limits.p99_ms", "off", "models.churn.rollout.limits.p99_ms"),
        ("models.churn.as_of", 20240301, "models.churn.as_of: write it like 2013-04-01T00:00:00Z"),
        ("models.churn.as_of", "0001-01-01T00:00:00Z", "the year must be from 1900 to 9998"),
        ("models.churn.schedule.cron", "every monday", "models.churn.schedule.cron: must be a cron schedule of five"),
        ("models.churn.monitor.cron", "0 0 * * 1 5", "models.churn.monitor.cron: must be a cron schedule of five"),
        ("models.churn.source.window_days", 1e9, "models.churn.source.window_days"),
        ("models.churn.source.window_days", float("inf"), "models.churn.source.window_days"),
    ],
)
def test_a_wrong_key_is_named(project, key, value, told):
    """A wrong key or value gives one line with the key's full name."""
    change_params(project, key, value)
    with pytest.raises(SettingsError) as refused:
        load(project).model_of_a_run("churn")
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_router_counts_for_the_latency_limits_that_are_on(project):
    """A latency limit that is off adds no bound to the router's histograms."""
    change_params(project, "models.other", CHURN)
    change_params(project, "models.other.rollout.limits", {"p99_ms": None})
    change_params(project, "models.churn.rollout.limits", {"p99_ms": 333})
    assert router_config.latency_limits_ms(project, project / "traefik.yaml") == {333}


def test_each_limit_of_a_rollout_can_be_off(project):
    """A limit of a rollout that is null is off, and the others stay on."""
    for figure in FIGURES:
        change_params(project, "models.churn.rollout.limits", {figure: None})
        limits = load(project).model_of_a_run("churn").rollout.limits
        assert limits.off == (figure,)
        assert limits.on == tuple(other for other in FIGURES if other != figure)
    assert RolloutLimits().off == ()


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("models.other.rollout.serving.max_rwos", 3, "unknown key models.other.rollout.serving.max_rwos"),
        ("models.other.as_of", None, "models.other.as_of: Input should be a valid datetime"),
        ("models.other.source", "a query", "models.other.source: must have keys of its own, like {key: value}"),
        ("models.other", None, "models.other: must have keys of its own, like {key: value}"),
        ("models.other", ["a", "list"], "models.other: must have keys of its own, like {key: value}"),
        ("models.Other", CHURN, "model name 'Other': use a-z, 0-9 and '-', at most 40 characters"),
        ("models.other\n", CHURN, "model name 'other\\n': use a-z, 0-9 and '-', at most 40 characters"),
    ],
)
def test_a_broken_block_is_its_models_own_trouble(project, key, value, told):
    """A broken block is refused with one line for its own model, and the other model's block is read."""
    change_params(project, "models.other", CHURN)
    _, name, *rest = key.split(".")
    settings = yaml.safe_load((project / "params.yaml").read_text())
    settings["models"].setdefault(name, {})
    write_params(project, settings)
    change_params(project, key, value)
    read = load(project)
    assert read.model_of_a_run("churn").training.target == "left"
    assert list(read.broken) == [name]
    with pytest.raises(SettingsError) as refused:
        read.model(name)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("written", "name"), [("2024", "2024"), ("true", "True"), ("1e5", "100000.0"), ("2024-01-01", "2024-01-01")]
)
def test_a_name_that_yaml_takes_for_no_text_is_refused_alone(project, written, name):
    """A model's name that YAML reads as a number, a truth value or a day must be quoted; the other models are read."""
    path = project / "params.yaml"
    path.write_text(path.read_text() + f"  {written}: {{}}\n")
    read = load(project)
    assert list(read.models) == ["churn"]
    assert "write it in quotes" in str(read.broken[name])


def test_a_day_that_does_not_exist_is_its_own_keys_fault(project):
    """A time without quotes that no calendar has is a fault of its key and not of the file."""
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("as_of: '2024-03-01T00:00:00Z'", "as_of: 2024-13-01"))
    read = load(project)
    assert "models.churn.as_of: Input should be a valid datetime" in str(read.broken["churn"])
    assert read.prices.currency == "USD"


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("speed", "high", "unknown key speed"),
        ("prices.cpu_core_hour", -1, "prices.cpu_core_hour: Input should be greater than or equal to 0"),
        ("prices", None, "prices: must have keys of its own, like {key: value}"),
        ("baseline.source", None, "baseline.source: Input should be a valid string"),
        ("workspaces.kept", 3, "unknown key workspaces.kept"),
    ],
)
def test_a_fault_outside_of_the_blocks_stops_new_runs_and_nothing_else(project, key, value, told):
    """A fault in what all models share refuses a new run; a model's own settings can be read all the same."""
    change_params(project, key, value)
    read = load(project)
    assert read.model("churn").training.target == "left"
    with pytest.raises(SettingsError) as refused:
        read.model_of_a_run("churn")
    assert told in str(refused.value)
    first = key.partition(".")[0]
    if first != "speed":
        with pytest.raises(SettingsError, match=r"params.yaml"):
            getattr(read, first)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "params.yaml: is empty"),
        (b"- prices\n- models\n", "params.yaml: is a list, no keys with values"),
        (b"prices: {}\nmodels:\n  churn: [\n", "params.yaml line 3: is not YAML (did not find expected node content"),
        (b"prices: {}\n<<<<<<< HEAD\nmodels: {}\n", "params.yaml line 3: is not YAML (could not find expected ':')"),
        (
            b"prices: {}\nmodels:\n  churn: {}\n  churn: {}\n",
            "params.yaml line 4: is not YAML (churn is written twice)",
        ),
        (b"prices: {}\nmodels: \xff\xfe\n", "params.yaml line 2: is no UTF-8"),
        # What PyYAML takes and DVC does not: a run's stages could read no model of such a file.
        (
            b"models:\n  a: {queues: [b:c]}\n",
            "params.yaml line 2: is not YAML (found unexpected ':': put the text into quotes)",
        ),
        (
            b"models:\n  a: {hook: b:c}\n",
            "params.yaml line 2: is not YAML (found unexpected ':': put the text into quotes)",
        ),
        (b"prices: !!python/name:os.system\n", "params.yaml line 1: is not YAML (could not determine a constructor"),
        (b"prices: " + b"9" * 5000, "params.yaml: is not YAML (Exceeds the limit"),
        (b"[" * 5000, "params.yaml line 1: is not YAML"),
        (b"models: &m {a: {b: *m}}\n", "params.yaml: is not YAML (deeper than 40 levels, by brackets or by aliases"),
        (b"models: {a: " + b"[" * 50 + b"]" * 50 + b"}\n", "params.yaml: is not YAML (deeper than 40 levels"),
        (
            b"".join(
                b"k%d: &k%d [%s]\n" % (n, n, b", ".join([b"*k%d" % (n - 1) if n else b"x"] * 9)) for n in range(9)
            ),
            "params.yaml: is not YAML (more than 2,000,000 values, by brackets or by aliases",
        ),
        (None, "params.yaml: cannot be read (No such file or directory)"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line_for_whoever_asks(project, content, told):
    """A file that is no YAML, or none that has keys, is refused with its line when somebody asks for a setting, not before."""
    path = project / "params.yaml"
    path.unlink() if content is None else path.write_bytes(content)
    read = load(project)
    assert (read.models, read.broken) == ({}, {})
    for ask in (lambda: read.model("churn"), lambda: read.prices, lambda: read.model_of_a_run("churn")):
        with pytest.raises(SettingsError) as refused:
            ask()
        assert told in str(refused.value)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("models", ["models: 3\n", "models:\n", ""])
def test_a_file_without_models_says_so(project, models):
    """A file whose `models` is missing or no mapping has no model, and says which key is wrong."""
    (project / "params.yaml").write_text("prices: {cpu_core_hour: 1, memory_gb_hour: 1, engineer_hour: 1}\n" + models)
    read = load(project)
    assert read.prices.cpu_core_hour == 1
    with pytest.raises(SettingsError, match="models"):
        read.model("churn")


def test_an_unknown_model_lists_the_known_ones(settings):
    """An unknown model's error lists the known models."""
    with pytest.raises(SettingsError, match="use one of its models: churn"):
        settings.model("chrun")


def test_settings_are_frozen(settings):
    """Settings cannot be changed after they are read."""
    with pytest.raises(ValueError, match="frozen"):
        settings.models["churn"].as_of = None


def keys(section, prefix=""):
    for name, field in section.model_fields.items():
        inner = [
            t for t in (field.annotation, *getattr(field.annotation, "__args__", ())) if hasattr(t, "model_fields")
        ]
        if inner and name != "columns":
            yield from keys(inner[0], "" if name == "models" else f"{prefix}{name}.")
        else:
            yield f"{prefix}{field.alias or name}"


def test_every_key_is_documented():
    """docs/params.md has a line for each key that params.yaml may have, and no other."""
    text = (ROOT / "docs" / "params.md").read_text().partition("## The environment")[0]
    documented = {
        k
        for line in text.splitlines()
        if line.startswith("| `")
        for k in re.findall(r"`([a-z0-9_.]+)`", line.split("|")[1])
    }
    assert documented == set(keys(ParamsFile))


def test_a_time_that_is_none_and_a_key_that_no_form_has_are_one_line():
    """A text that is no time and a conf key that no form has give one line each."""
    with pytest.raises(SettingsError, match="as_of 'yesterday': is not a time"):
        time_of("yesterday")
    with pytest.raises(SettingsError, match="conf as_off: is unknown to this Dag; use as_of"):
        refuse_unknown({"as_off": 1}, {"as_of": None})


def test_how_a_broken_blocks_csv_is_written_is_still_known(tmp_path):
    """`predict` reads a decimal comma as one beside an unknown key of the block; a fault in the form itself is told."""
    csv = {"delimiter": ";", "decimal": ","}
    source = {**CHURN["source"], "csv": csv}
    wrong = {**CHURN, "source": {**source, "csv": {"delimeter": ";"}}}
    blocks = {"churn": {**CHURN, "source": source, "monitr": 1}, "wrong": wrong, "usual": {**CHURN, "monitr": 1}}
    write_params(tmp_path, {"models": blocks})
    read = load(tmp_path)
    assert set(read.broken) == {"churn", "wrong", "usual"}
    assert (read.csv_of("churn").delimiter, read.csv_of("churn").decimal) == (";", ",")
    assert read.csv_of("usual").delimiter == read.csv_of("nobody").delimiter == ","
    with pytest.raises(SettingsError, match="delimeter"):
        read.csv_of("wrong")


def test_a_section_is_read_by_itself_whatever_else_is_wrong_in_its_block(tmp_path):
    """What a block says of its slots and its economics counts though it is broken elsewhere; what is wrong itself is as usual."""
    (tmp_path / "params.yaml").write_text(
        "models:\n"
        "  churn: {as_of: never, economics: {retrain_minutes: 7}, rollout: {serving: {cpus: 3}}}\n"
        "  wrong: {economics: {retrain_minutes: -1}, rollout: [serving]}\n"
        "  text: none\n"
    )
    read = load(tmp_path)
    minutes = {name: read.section_of(name, Economics, "economics").retrain_minutes for name in (*read.broken, "absent")}
    cpus = {name: read.section_of(name, Serving, "rollout", "serving").cpus for name in (*read.broken, "absent")}
    assert minutes == {"churn": 7, "wrong": 15, "text": 15, "absent": 15}
    assert cpus == {"churn": 3, "wrong": 1, "text": 1, "absent": 1}
