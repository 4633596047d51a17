"""Times at the source that are texts or numbers: read by the rule of requests, and never by an error of DuckDB's cast."""

import json

import pandas as pd
import pytest

from harness.project import change_params, customers
from pipeline.data import contract
from pipeline.errors import DataError
from pipeline.monitoring import live_quality
from pipeline.settings.models import load
from tests.component.test_snapshot import digests, take

TIMES = ["seen_at", "decided_at"]
AS_OF = pd.Timestamp("2024-03-01", tz="UTC")


def read_by(project, key, value):
    change_params(project, "models.churn.source.query", None)
    change_params(project, f"models.churn.source.{key}", value)


def in_unit(frame, unit, kind):
    """The frame with its times as numbers of `unit`; as doubles, one label's time is missing."""
    for column in TIMES:
        numbers = frame[column].dt.tz_localize(None).astype("datetime64[ns]").astype("int64")
        numbers = numbers // {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[unit]
        frame = frame.assign(**{column: numbers.astype(kind)})
    return frame


@pytest.fixture
def frame():
    """The customers, with whole seconds, which each unit can hold."""
    return customers().assign(**{c: customers()[c].dt.floor("s") for c in TIMES})


@pytest.mark.parametrize(
    ("unit", "kind"), [("s", "int64"), ("s", "float64"), ("ms", "int64"), ("us", "float64"), ("ns", "int64")]
)
def test_numbers_are_times_by_the_epoch(project, frame, unit, kind):
    """Whole numbers and doubles of each unit, as Parquet and as the digits of a CSV, give the snapshot of typed times."""
    read_by(project, "files", ["customers/*.parquet"])
    frame.to_parquet(project / "customers" / "all.parquet")
    typed, counts = take(project, "typed")
    numbers = in_unit(frame, unit, kind)
    numbers.to_parquet(project / "customers" / "all.parquet")
    change_params(project, "models.churn.source.epoch", unit)
    found, again = take(project, "numbers")
    assert (again.rows, again.label_later) == (counts.rows, counts.label_later)
    schema = json.loads((found / "schema.json").read_text())
    assert schema.pop("epoch") == unit
    assert schema == json.loads((typed / "schema.json").read_text())
    days = {name: digest for name, digest in digests(typed).items() if name != "schema.json"}
    assert {name: digest for name, digest in digests(found).items() if name != "schema.json"} == days
    numbers.to_csv(project / "customers" / "all.csv", index=False)
    change_params(project, "models.churn.source.files", ["customers/*.csv"])
    assert digests(take(project, "csv")[0]) == digests(found)


@pytest.mark.parametrize("key", ["query", "files"])
def test_a_number_without_an_epoch_is_told_the_key(project, frame, key):
    """A time that is a number, typed or as digits, is refused with the key by its full name."""
    numbers = in_unit(frame, "s", "int64")
    numbers = numbers if key == "files" else numbers.assign(seen_at=frame.seen_at)
    numbers.to_parquet(project / "customers" / "all.parquet")
    if key == "files":
        read_by(project, "files", ["customers/*.parquet"])
    with pytest.raises(
        DataError, match=r"holds BIGINT, not a time; set models\.churn\.source\.epoch to s, ms, us or ns"
    ):
        take(project)
    numbers.astype({c: str for c in TIMES if c in numbers and numbers[c].dtype == "int64"}).to_parquet(
        project / "customers" / "all.parquet"
    )
    with pytest.raises(DataError, match=r"is no time in .* rows, e\.g\. '17.*; set models\.churn\.source\.epoch to s"):
        take(project)


@pytest.mark.parametrize(("kind", "told"), [("bool", "BOOLEAN"), ("float32", "FLOAT, not a time: its last digits")])
def test_what_is_no_time_with_an_epoch_either_is_named(project, frame, kind, told):
    """Truth values are no times, and a float32 has lost the digits of one."""
    in_unit(frame, "s", "int64").astype({"decided_at": kind}).to_parquet(project / "customers" / "all.parquet")
    read_by(project, "files", ["customers/*.parquet"])
    change_params(project, "models.churn.source.epoch", "s")
    with pytest.raises(DataError, match=f"column decided_at holds {told}"):
        take(project)


@pytest.mark.parametrize("key", ["query", "hook"])
def test_a_text_that_is_no_time_is_quarantined_from_each_source(project, frame, monkeypatch, key):
    """A few unreadable texts among the times of a query or a hook are bad rows with their texts as examples, and no end of the run."""
    in_window = frame.index[frame.seen_at.between("2024-02-05", "2024-02-20")]
    texts = frame.assign(**{c: frame[c].dt.strftime("%Y-%m-%dT%H:%M:%SZ").astype(object) for c in TIMES})
    texts.loc[in_window[0], "decided_at"], texts.loc[in_window[1], "seen_at"] = "soon", "31.01.2024"
    texts.to_parquet(project / "customers" / "all.parquet")
    if key == "query":
        everything = "SELECT * FROM read_parquet('customers/*.parquet') WHERE $start < $end"
        change_params(project, "models.churn.source.query", everything)
    else:
        (project / "texts_source.py").write_text(
            "import pandas as pd\ndef rows(start, end):\n    return pd.read_parquet('customers/all.parquet')\n"
        )
        monkeypatch.syspath_prepend(str(project))
        read_by(project, "hook", "texts_source:rows")
    folder, _ = take(project)
    model = load(project).model("churn")
    files = [project / f"one.{end}" for end in ("json", "quarantine", "report")]
    report = contract.check("churn", model, folder, *files)
    faults = {(f["column"], f["check"]): f["examples"] for f in report["faults"]}
    assert faults["decided_at", "time"] == ["soon"]
    assert faults["seen_at", "time"] == ["31.01.2024"]
    labels = live_quality.labels(model, project, AS_OF - pd.Timedelta(days=30), AS_OF, "churn")
    assert frame.customer[in_window[2]] in set(labels.key)
    assert not {frame.customer[in_window[0]], frame.customer[in_window[1]]} & set(labels.key)
    texts.assign(decided_at="soon").to_parquet(project / "customers" / "all.parquet")
    with pytest.raises(DataError, match=r"column decided_at is no time in .* rows, e\.g\. 'soon'; times must be like"):
        take(project)
