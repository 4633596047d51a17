"""`perennial init`: what it infers from a table, what it leaves out and refuses, and how the block gets into params.yaml."""

import numpy as np
import pandas as pd
import pytest
import yaml

from pipeline.errors import PerennialError
from pipeline.init import block, small_table, text_groups
from pipeline.init.request import Draft, Request
from pipeline.init.run import init
from pipeline.settings.models import load

ROWS = 2000
RANDOM = np.random.default_rng(7)
SEEN = pd.Series(pd.Timestamp("2024-01-01") + pd.to_timedelta(np.sort(RANDOM.uniform(0, 100 * 86400, ROWS)), unit="s"))
SPEND = RANDOM.normal(size=ROWS).round(3)
CHURNED = (SPEND + RANDOM.normal(size=ROWS) > 0.4).astype(int)
TABLE = pd.DataFrame(
    {
        "customer_id": np.arange(ROWS) + 5000,
        "seen_at": SEEN.dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "spend": SPEND,
        "plan": RANDOM.choice(["basic", "plus", "pro"], ROWS),
        "zip": [f"{n:05d}" for n in RANDOM.integers(0, 90, ROWS)],
        "churned": CHURNED,
    }
)
PARAMS = """# of all models
prices: {cpu_core_hour: 0.05, memory_gb_hour: 0.006, engineer_hour: 95}   # ours
baseline:
  source: "an estimate"
  manual_engineer_hours_per_deployment: [8, 16]
  automated_engineer_hours_per_deployment: [0.5, 2]
models:
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """No estimator is tried, which takes half of the time: small_table.py has tests of its own, and each awkward table tries one."""
    monkeypatch.setattr(small_table, "with_estimator", lambda draft, *_: draft)
    (tmp_path / "params.yaml").write_text(PARAMS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def _without_groups(monkeypatch):
    """How many groups of words are best is not tried, which takes most of the time where there is a text: text_groups.py has its own tests."""
    monkeypatch.setattr(text_groups, "with_groups", lambda draft, *_: draft)


def drafted(project, table=TABLE, file="customers.csv", dry_run=True, **asked):
    """init's result for `table` in a CSV or Parquet file of the project."""
    if file.endswith(".csv"):
        table.to_csv(project / file, index=False)
    else:
        table.to_parquet(project / file, index=False)
    return init(Request("churn", **({"data": file, "target": "churned"} | asked)), project, dry_run)


def left_out(result):
    return {each.column: each.why for each in result.draft.left_out}


def test_a_table_becomes_a_block_that_is_right_as_it_stands(project):
    """The block from a CSV has key, time, features, windows and gates, and params.yaml with it has no fault."""
    result = drafted(project, dry_run=False)
    params = load(project)
    assert not params.faults and not params.broken
    model = params.models["churn"]
    assert (model.source.files, model.source.key, model.source.event_time) == (
        ("customers.csv",),
        "customer_id",
        "seen_at",
    )
    assert (model.training.task, model.training.numeric, model.training.categorical) == (
        "binary",
        ("spend",),
        ("plan", "zip"),
    )
    assert (model.as_of, model.source.window_days) == (pd.Timestamp("2024-04-10", tz="UTC"), 100)
    held_out = (
        pd.Timestamp(model.as_of).tz_convert(None) - pd.Timedelta(days=model.evaluation.holdout_days) <= SEEN
    ).mean()
    assert 0.19 < held_out < 0.22
    assert result.written and "key: customer_id, it is different in each row (--key)" in map(
        str, result.draft.assumptions
    )


@pytest.mark.parametrize("file", ["customers.csv", "customers.parquet"])
def test_each_kind_of_column_is_told_apart(project, file):
    """Numbers, truths, categories, old dates and free texts are features; what is constant, empty or an identifier is left out, with why."""
    table = TABLE.assign(
        calls=pd.array([None, 1, 2, 3] * (ROWS // 4), dtype="Int64"),
        active=[True, False] * (ROWS // 2),
        agreed=["yes", "no"] * (ROWS // 2),
        email=[f"user{n}@example.org" for n in range(ROWS)],
        constant="x",
        empty=None,
        born=pd.date_range("1950-01-01", periods=ROWS).strftime("%Y-%m-%d"),
        note=[f"called {n} times about the last bill" for n in range(ROWS)],
    )
    result = drafted(project, table, file, time="seen_at")
    assert result.draft.settings["training"]["numeric"] == ["spend", "calls", "active", "agreed"]
    assert result.draft.settings["training"]["categorical"] == ["plan", "zip"]
    whys = left_out(result)
    assert result.draft.settings["training"]["datetime"] == ["born"]
    assert set(whys) == {"email", "constant", "empty"}
    assert "2,000 different values" in whys["email"] and "value in no row" in whys["empty"]
    training = result.draft.settings["training"]
    assert (training["text"], training["words"]) == (["note"], 64)
    assert training["calendar"] == ["weekday", "month", "age"]
    (said,) = (str(each) for each in result.draft.assumptions if each.what == "words")
    assert said.startswith("words: 64 groups, of what is said in note; 0 is its length alone; roc_auc 0.")


WORDS = ["The", "old", "man", "and", "a", "sea", "of", "winter", "return", "house", "Über", "night"]


@pytest.mark.usefixtures("_without_groups")
@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([" ".join(RANDOM.choice(WORDS, RANDOM.integers(1, 6))) + f" {n}" for n in range(ROWS)], "text"),
        ([f"{RANDOM.choice(WORDS)}na Mc{n:x}".title() for n in range(ROWS)], None),
        ([f"https://the.old.shop/of/{n}" for n in range(ROWS)], None),
        ([f"AB {n} X{n % 7}" for n in range(ROWS)], None),
        ([f"The old man and {n % 40}"[8 * (n % 2) :] for n in range(ROWS)], "categorical"),
    ],
    ids=["titles", "names", "addresses of pages", "codes", "few titles"],
)
def test_titles_that_nearly_all_differ_are_texts(project, cells, kind):
    """Short texts of several words are learnt by their words; names and addresses say who, and titles that come again are categories."""
    training = drafted(project, TABLE.assign(title=cells)).draft.settings["training"]
    assert [of for of in ("text", "categorical") if "title" in training.get(of, [])] == ([kind] if kind else [])


def test_a_text_that_tells_the_answer_is_left_out(project):
    """A text that was written after the label predicts it by its words alone, and is left out as other leaks are."""
    said = ["the customer told us to end it" if row else "the customer is glad to stay here" for row in TABLE.churned]
    result = drafted(project, TABLE.assign(note=said))
    assert "it alone predicts churned" in left_out(result)["note"]
    assert "words" not in result.draft.settings["training"]


@pytest.mark.usefixtures("_without_groups")
def test_a_time_is_a_feature_only_when_it_was_known_and_is_no_clock(project):
    """A time after the row's own, and one that goes on with it, are left out, with why; a flag keeps the second."""
    seen = pd.to_datetime(TABLE.seen_at)
    table = TABLE.assign(left_on=seen + pd.Timedelta(days=3), joined=seen - pd.Timedelta(days=9))
    whys = left_out(drafted(project, table, "a.parquet", time="seen_at"))
    assert "may be later than seen_at" in whys["left_on"] and "goes on with seen_at" in whys["joined"]
    kept = drafted(project, table, "a.parquet", time="seen_at", datetime=("joined",), text=("plan",))
    assert kept.draft.settings["training"]["datetime"] == ["joined"]
    assert kept.draft.settings["training"]["text"] == ["plan"]


@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_times_as_numbers_have_their_unit(project, unit, factor):
    """Seconds, milli-, micro- and nanoseconds since 1970 in a column that is named as a time are its times, in files and in a query."""
    seconds = pd.to_datetime(TABLE.seen_at).dt.tz_localize(None).astype("datetime64[s]").astype("int64")
    table = TABLE.assign(seen_at=seconds * factor)
    result = drafted(project, table)
    assert (result.draft.settings["source"]["epoch"], result.draft.settings["as_of"]) == (unit, "2024-04-10T00:00:00Z")
    table.to_parquet(project / "rows.parquet", index=False)
    query = init(Request("churn", "SELECT * FROM 'rows.parquet'", "churned"), project, False).draft.settings["source"][
        "query"
    ]
    assert (
        f"epoch{'' if unit == 's' else f'_{unit}'}($start)" in query
        and load(project).models["churn"].source.epoch == unit
    )


def test_rows_that_nothing_tells_apart_need_no_key(project):
    """Without a column that could be the key the block has none, and says by what rows are known; a key that comes again is one."""
    result = drafted(project, TABLE.drop(columns="customer_id"), dry_run=False)
    assert "key" not in result.draft.settings["source"] and load(project).models["churn"].source.key is None
    again = drafted(project, TABLE.assign(customer_id=np.arange(ROWS) % 300))
    assert again.draft.settings["source"]["key"] == "customer_id"


def test_a_feature_that_knows_the_answer_is_left_out(project):
    """A column that is written after the label is called a leak, and stays when a flag names it."""
    table = TABLE.assign(
        refund=np.where(CHURNED, RANDOM.integers(1, 9, ROWS), 0), reason=np.where(CHURNED, "price", "none")
    )
    assert set(left_out(drafted(project, table))) == {"refund", "reason"}
    kept = drafted(project, table, numeric=("refund",))
    assert set(left_out(kept)) == {"reason"} and "refund" in kept.draft.settings["training"]["numeric"]


def test_labels_that_come_later_are_seen(project):
    """A time that each label has, and that is never before the row's own, is the label time; the as-of waits for the last label."""
    later = (SEEN + pd.Timedelta(days=9)).dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    source = drafted(project, TABLE.assign(decided_at=later), time="seen_at").draft.settings["source"]
    assert source["label_time"] == "decided_at"
    sometimes = later.where(RANDOM.uniform(size=ROWS) < 0.5)
    result = drafted(project, TABLE.assign(decided_at=sometimes), time="seen_at")
    assert "label_time" not in result.draft.settings["source"] and "decided_at" in left_out(result)


def test_how_a_csv_is_written_is_seen(project):
    """Semicolons, decimal commas and latin-1 are in source.csv, and numbers are numbers."""
    table = TABLE.assign(spend=TABLE.spend.astype(str).str.replace(".", ","), plan=TABLE.plan.replace("pro", "größer"))
    table.to_csv(project / "semi.csv", sep=";", index=False, encoding="latin-1")
    settings = init(Request("churn", "semi.csv", "churned"), project, True).draft.settings
    assert settings["source"]["csv"] == {"delimiter": ";", "decimal": ",", "encoding": "latin-1"}
    assert settings["training"]["numeric"] == ["spend"]


def test_a_query_and_a_folder_are_sources_too(project):
    """A SELECT gets $start and $end around it; a folder becomes a glob from the project's folder."""
    (project / "days").mkdir()
    TABLE.head(1000).to_parquet(project / "days" / "a.parquet", index=False)
    TABLE.tail(1000).to_parquet(project / "days" / "b.parquet", index=False)
    assert init(Request("churn", "days", "churned"), project, True).draft.settings["source"]["files"] == [
        "days/*.parquet"
    ]
    init(Request("churn", "SELECT * FROM read_parquet('days/*.parquet') -- all", "churned"), project, False)
    query = load(project).models["churn"].source.query
    assert "$start" in query and "-- all\n" in query


def test_a_number_is_a_regression_with_a_limit_from_the_data(project):
    """A numeric target is judged by its mean error, and the limit is what the naive guess reaches."""
    table = TABLE.assign(churned=np.exp(SPEND + RANDOM.normal(size=ROWS)) * 1e4)
    settings = drafted(project, table, dry_run=False).draft.settings
    assert (settings["training"]["task"], settings["evaluation"]["metric"]) == ("regression", "mae")
    held = pd.Timestamp("2024-04-10") - pd.Timedelta(days=settings["evaluation"]["holdout_days"]) <= SEEN
    naive = (table.churned[held] - table.churned[~held].mean()).abs().mean()
    assert settings["gates"]["metric_limit"] == pytest.approx(naive, rel=2e-3)


@pytest.mark.parametrize(("labels", "rarer"), [(("gone", "here"), "gone"), ((2, 1), "2"), ((-1, 1), "-1")])
def test_two_labels_of_any_name_are_a_binary_task(project, labels, rarer):
    """Of two labels the rarer one is 1 unless a flag names the other, and the block says which."""
    table = TABLE.assign(churned=np.where(CHURNED, *labels))
    result = drafted(project, table, dry_run=False)
    assert result.draft.settings["training"]["positive"] == rarer
    assert load(project).models["churn"].training.positive == rarer
    other = drafted(project, table, positive=str(labels[1]))
    assert other.draft.settings["training"]["positive"] == str(labels[1])


def test_cells_that_are_no_numbers_are_counted_and_said(project):
    """A numeric column with some words stays numeric, and as many rows may be left out as it needs."""
    table = TABLE.assign(spend=TABLE.spend.astype(str).where(RANDOM.uniform(size=ROWS) > 0.02, "unknown"))
    result = drafted(project, table)
    assert "spend" in result.draft.settings["training"]["numeric"]
    assert 0.02 < result.draft.settings["gates"]["contract"]["max_bad_share"] < 0.08
    assert any("of the cells of spend are no numbers" in str(each) for each in result.draft.assumptions)


def test_cells_that_are_no_times_are_counted_and_said(project):
    """Rows whose date cannot be read are quarantined in each run, so the share of them is in the proposed limit."""
    given = pd.Series(["2020-05-01", "2021-07-30", "2019-01-02"]).sample(ROWS, replace=True, random_state=1).to_numpy()
    given[::30] = "soon"
    result = drafted(project, TABLE.assign(since=given), time="seen_at")
    assert 0.06 < result.draft.settings["gates"]["contract"]["max_bad_share"] < 0.08
    assert any("3.35% of the cells of since are no times" in str(each) for each in result.draft.assumptions)


def test_rows_without_a_key_or_a_time_and_rows_that_are_there_twice_are_said(project):
    """The proposed limit has room for them, so that the run that follows is not refused."""
    given = TABLE.assign(
        customer_id=TABLE.customer_id.astype(object).where(TABLE.index % 40 != 0, None),
        seen_at=TABLE.seen_at.where(TABLE.index % 50 != 1, None),
    )
    result = drafted(project, pd.concat([given, given.tail(100)]), time="seen_at", key="customer_id")
    lines = "\n".join(map(str, result.draft.assumptions))
    assert (
        "rows without a time: 42 of 2,100" in lines and "of the rows have customer_id and seen_at of another" in lines
    )
    assert result.draft.settings["gates"]["contract"]["max_bad_share"] == pytest.approx(2 * (53 + 95) / 2100, abs=0.01)


@pytest.mark.parametrize(
    ("change", "asked", "line"),
    [
        (lambda t: t.head(10), {}, "--data: has 10 rows with a label and a time; 250 are the fewest"),
        (lambda t: t.assign(churned=0), {}, "--target churned: is '0' in every row"),
        (lambda t: t.assign(churned=None), {}, "--target churned: has a value in no row"),
        (
            lambda t: t.assign(churned=np.resize(["gone", "here", "moved"], ROWS)),
            {"task": "binary"},
            "--target churned: has 3 labels, 'gone', 'here', 'moved', and a binary task has two",
        ),
        (
            lambda t: t.assign(churned=np.where(CHURNED, "gone", "here")),
            {"positive": "Gone"},
            "--positive Gone: is no label",
        ),
        (lambda t: t.assign(churned=np.where(CHURNED, "gone", "here")), {"task": "regression"}, "holds no numbers"),
        (
            lambda t: t,
            {"target": "Churned"},
            "--target Churned: is no column of the data; write it as it is there: churned",
        ),
        (
            lambda t: t,
            {"target": "left"},
            "--target left: is no column of the data; its columns are customer_id, seen_at",
        ),
        (lambda t: t.drop(columns="seen_at"), {}, "--time: is not given, and no column holds times"),
        (lambda t: t.assign(other=t.seen_at), {}, "--time: is not given, and 2 columns hold times: seen_at, other"),
        (
            lambda t: t.assign(seen_at="01/02/2024"),
            {"time": "seen_at"},
            "--time seen_at: has times of the form %m/%d/%Y, like '01/02/2024'",
        ),
        (
            lambda t: t.assign(seen_at="2024-01-02"),
            {"time": "seen_at"},
            "--time seen_at: is 2024-01-02 00:00 in every row",
        ),
        (lambda t: t.assign(Spend=1), {}, "has Spend twice (upper and lower case are one column)"),
        (lambda t: t[["customer_id", "seen_at", "churned"]], {}, "--data: has no column to learn churned from"),
        (
            lambda t: t.assign(churned=np.arange(ROWS) % 50 == 0).sort_values("churned"),
            {"holdout_days": 0.001},
            "--holdout-days: 0.001 leaves",
        ),
        (lambda t: t, {"data": "nowhere.csv"}, "--data nowhere.csv: names no file"),
        (lambda t: t, {"data": "params.yaml"}, "does not end in .csv, .csv.gz, .parquet"),
        (lambda t: t, {"metric": "auc"}, "--metric auc: is no metric of a binary task; use one of roc_auc"),
        (lambda t: t, {"data": "SELECT * FROM 'customers.csv'"}, "takes its types from the first 20,480 lines"),
    ],
)
def test_what_cannot_be_a_model_is_one_line(project, change, asked, line):
    """A table or a flag that fits no model is refused in one line with the next step, and params.yaml stays as it is."""
    with pytest.raises(PerennialError) as refused:
        drafted(project, change(TABLE), dry_run=False, **asked)
    assert line in str(refused.value) and "\n" not in str(refused.value)
    assert (project / "params.yaml").read_text() == PARAMS


DRAFT = Draft("late-fee", {"as_of": "2024-01-01T00:00:00Z", "source": {"files": ["a b.csv"], "key": "no"}})


@pytest.mark.parametrize(
    "given",
    [
        PARAMS,
        PARAMS + "  one:\n    description: |\n      two\n\n      lines\n\n# the end\n",
        PARAMS.replace(
            "models:\n",
            "models:   # all of them\n    one: {a: 1}\n    # about two\n    two: {b: [1, 2]}\nworkspaces:\n  keep: 3\n",
        ),
        PARAMS.replace("models:\n", "models: {}  # none yet\nworkspaces: {keep: 3}\n"),
        PARAMS.replace("models:\n", ""),
        PARAMS.rstrip("\n"),
    ],
)
def test_a_block_changes_nothing_else_in_the_file(tmp_path, given):
    """Whatever params.yaml looks like, each of its lines stays, comments too, and the new block is one of its models."""
    file = tmp_path / "params.yaml"
    file.write_text(given)
    block.add(file, DRAFT)
    after = file.read_text()
    read = yaml.safe_load(after)
    assert read["models"].pop("late-fee") == DRAFT.settings
    before = yaml.safe_load(given)
    assert {**read, "models": read["models"] or {}} == {**before, "models": before.get("models") or {}}
    comments = [line.partition("#")[2] for line in given.splitlines() if "#" in line]
    assert all(comment in after for comment in comments)


def test_a_model_that_is_there_already_is_not_written_again(project):
    """A second block of the same name is refused, and the first stays."""
    drafted(project, dry_run=False)
    first = (project / "params.yaml").read_text()
    with pytest.raises(PerennialError, match="model churn: is in params.yaml already; give another name"):
        drafted(project, dry_run=False)
    assert (project / "params.yaml").read_text() == first


@pytest.mark.parametrize(
    "name", ["on", "no", "1e5", "Floor Area [m²]", 'it\'s "x"', "a: b", "#", "null", "${x}", "0012", "~"]
)
def test_any_name_of_a_column_is_a_text_in_yaml(tmp_path, name):
    """A column's name comes back as the same text, by YAML 1.1 and by 1.2, which DVC reads."""
    from ruamel.yaml import YAML

    (tmp_path / "params.yaml").write_text("models:\n")
    block.add(tmp_path / "params.yaml", Draft("m", {"training": {"numeric": [name] * 30, "target": name}}))
    text = (tmp_path / "params.yaml").read_text()
    for read in (yaml.safe_load(text), YAML(typ="safe").load(text)):
        assert read["models"]["m"]["training"] == {"numeric": [name] * 30, "target": name}
