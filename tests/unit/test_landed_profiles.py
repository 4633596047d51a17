"""What has landed is counted in parts beside the training, and the stage takes it where it can be true."""

import json
from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.project import CHURN
from pipeline.data import contract
from pipeline.monitoring import drift_reference
from pipeline.monitoring.profiles import counted_before
from pipeline.monitoring.profiles.profile import Profile
from pipeline.runs import landed_profiles
from pipeline.settings.models import Model
from pipeline.training import frames

BROKEN = [3, 700, 701, 2_999]


@pytest.fixture
def model():
    """A model with slices, whose last three days are held out."""
    monitor, evaluation = CHURN["monitor"] | {"slices": ["plan"]}, CHURN["evaluation"] | {"holdout_days": 3}
    return Model.model_validate(CHURN | {"monitor": monitor, "evaluation": evaluation, "as_of": "2024-01-31T00:00:00Z"})


def landed(folder, model, step="2D"):
    """3,000 rows of 30 days, two neighbours each so far from the next two, in a partition a day: one has no number of a feature at all, and texts, infinities and missing values are in others."""
    rng = np.random.default_rng(4)
    first = pd.Timestamp("2024-01-01", tz="UTC")
    folder.mkdir()
    rows = 100
    for at in range(30):
        day = first + at // 2 * pd.Timedelta(step) + at % 2 * pd.Timedelta("1D")
        numbers = {name: rng.normal(at / 9, 2, rows) for name in model.training.numeric}
        numbers[model.training.numeric[0]][: rows if at == 5 else 1] = np.nan
        numbers[model.training.numeric[-1]][1] = np.inf
        texts = {name: rng.choice(["a", "b", None, f"only {at}"], rows) for name in model.training.categorical}
        times = day + pd.to_timedelta(np.arange(rows), unit="s")
        table = pd.DataFrame({model.source.event_time: times, **numbers, **texts, model.training.target: 0.0})
        pq.write_table(pa.Table.from_pandas(table, preserve_index=False), folder / f"{day:%Y-%m-%d}.parquet")
    pd.DataFrame({"snapshot_row": BROKEN}).to_parquet(folder.parent / "quarantine.parquet")
    return folder


def counted_in_parts(folder, model, layout, groups):
    """The profiles of groups of partitions, each counted by itself as a worker does."""
    rows = {file.name: pq.read_metadata(file).num_rows for file in folder.glob("*.parquet")}
    broken = contract.broken_numbers(folder.parent / "quarantine.parquet")
    found = {}
    for names in groups:
        for block, numbers in landed_profiles.blocks(names, rows, broken):
            part = frames.taught(contract.kept_of([folder / name for name in block], None, numbers), model)
            found = counted_before.added(found, drift_reference.days_counted(part, model, (), layout))
    return found


def taught_by(folder, model):
    return frames.taught(contract.kept_rows(folder, folder.parent / "quarantine.parquet"), model)


@pytest.mark.parametrize("refit", [True, False])
@pytest.mark.parametrize("step", ["2D", "120D"])
def test_parts_counted_elsewhere_make_the_same_bytes(tmp_path, model, monkeypatch, refit, step):
    """However the partitions are grouped, and where days are kept by weeks, the reference is that of all rows counted at once."""
    monkeypatch.setattr(landed_profiles, "COUNTED_ROWS", 250)
    as_of = pd.Timestamp("2024-01-01", tz="UTC") + 15 * pd.Timedelta(step)
    evaluation = model.evaluation.model_copy(update={"refit": refit})
    model = model.model_copy(update={"evaluation": evaluation, "as_of": as_of.to_pydatetime()})
    folder = landed(tmp_path / "snapshot", model, step)
    rows, names = taught_by(folder, model), sorted(file.name for file in folder.glob("*.parquet"))
    alone = drift_reference.of_training(rows, model, ())
    layout = drift_reference.layout_of_training(rows, model, ())
    known = counted_in_parts(folder, model, layout, [names[:7], names[7::2], names[8::2]])
    packed = tmp_path / "counted"
    packed.mkdir()
    (packed / "one").write_bytes(counted_before.packed(layout, known))
    read = counted_before.read(packed, layout)
    monkeypatch.setattr(counted_before.in_memory, "by_day", lambda *_: pytest.fail("counts again"))
    made, taken = drift_reference.counted(rows, model, (), layout, read)
    assert made.as_text() == alone.as_text() and taken == len(known) > 0
    assert (len(alone.days) < len(known)) == (step == "120D")


def test_what_is_missing_or_cannot_be_true_is_counted_by_the_stage(tmp_path, model):
    """A day that nobody counted, one with another number of rows and one whose cells do not add up are counted again, and no other."""
    folder = landed(tmp_path / "snapshot", model)
    rows = taught_by(folder, model)
    layout = drift_reference.layout_of_training(rows, model, ())
    names = sorted(file.name for file in folder.glob("*.parquet"))
    known = counted_in_parts(folder, model, layout, [names])
    days, column = sorted(known), layout.columns[0].name
    del known[days[0]]
    known[days[1]] = replace(known[days[1]], rows=known[days[1]].rows + 1)
    for day, wrong in ((days[2], known[days[2]].cells[column] + 1), (days[3], known[days[3]].cells[column][1:])):
        known[day] = Profile(known[day].rows, {**known[day].cells, column: wrong})
    known[date(2020, 1, 1)] = known[days[4]]
    made, taken = drift_reference.counted(rows, model, (), layout, known)
    assert made.as_text() == drift_reference.of_training(rows, model, ()).as_text()
    assert taken == len(days) - 4


def test_profiles_in_other_edges_are_not_read(tmp_path, model):
    """A file whose layout is another one, of other data or other settings, is passed over; none is there on one machine."""
    folder = landed(tmp_path / "snapshot", model)
    rows = taught_by(folder, model)
    of_all, of_some = (drift_reference.layout_of_training(r, model, ()) for r in (rows, rows[:900]))
    counted = tmp_path / "counted"
    assert counted_before.read(counted, of_all) == {}
    counted.mkdir()
    (counted / "one").write_bytes(
        counted_before.packed(of_some, drift_reference.days_counted(rows, model, (), of_some))
    )
    assert counted_before.read(counted, of_all) == {} and len(counted_before.read(counted, of_some)) == 30


def test_edges_are_read_as_they_were_written(tmp_path, model):
    """The layout that the evaluation reads is the one that was drawn, to the last bit."""
    rows = taught_by(landed(tmp_path / "snapshot", model), model)
    drawn = drift_reference.layout_of_training(rows, model, ())
    drawn.write(tmp_path / "edges.json")
    assert type(drawn).of_file(tmp_path / "edges.json") == drawn
    assert json.loads((tmp_path / "edges.json").read_text())["version"] == 1


def test_groups_have_neighbours_and_at_most_so_many_rows():
    """A partition that is larger by itself has a group of its own, and none is left out."""
    rows = {f"{n:02}": 40 for n in range(5)} | {"02": 300}
    assert landed_profiles.grouped(rows, 100) == [["00", "01"], ["02"], ["03", "04"]]
    assert landed_profiles.grouped({}, 100) == []
