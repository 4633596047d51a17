"""A damaged file of the prediction log is set aside and counted. It ends no writer, and hides no row of the other files."""

import os
import threading
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cli import tables
from pipeline.deployer import status
from pipeline.errors import DataError
from pipeline.ledger.events import DriftChecked
from pipeline.monitoring import live_quality
from pipeline.monitoring.drift import DriftVerdict
from pipeline.policy.retrain import decide
from pipeline.rollout.evidence import _Tail
from pipeline.rollout.logged_requests import newest_rows
from pipeline.rollout.routing.route import RoutedSlot
from pipeline.rollout.slots import predictions_folder
from pipeline.runs.drift_check import DriftCheck
from pipeline.serving import log_files, prediction_log
from pipeline.serving.prediction_log import AnsweredRequest, LogSchema, PredictionLog
from pipeline.serving.runtime import Runtime
from pipeline.settings.models import Monitor

GOOD = {"spend": 10.0, "calls": 4, "plan": "plus"}
NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
SLOT = RoutedSlot("blue", "3", "http://127.0.0.1:1")


def empty(path):
    path.write_bytes(b"")


def one_byte(path):
    path.write_bytes(b"P")


def cut_in_the_middle(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_at_the_last_byte(path):
    path.write_bytes(path.read_bytes()[:-1])


def zeros(path):
    path.write_bytes(bytes(path.stat().st_size))


def zeros_after_the_start(path):
    path.write_bytes(path.read_bytes()[:100] + bytes(path.stat().st_size - 100))


def a_text(path):
    path.write_text("somebody's notes, and no Parquet at all")


def only_both_ends(path):
    path.write_bytes(b"PAR1" + bytes(40) + (40).to_bytes(4, "little") + b"PAR1")


def zeros_in_the_rows(path):
    """A disk that lost a block: both ends are right."""
    whole = path.read_bytes()
    path.write_bytes(whole[:8] + bytes(200) + whole[208:])


def another_table(path):
    pq.write_table(pa.table({"prediction": ["high", "low"]}), path)


def columns_of_another_kind(path):
    table = pq.read_table(path)
    at = table.column_names.index("prediction")
    pq.write_table(table.set_column(at, "prediction", pa.array(["0.5"] * len(table))), path)


def a_folder(path):
    path.unlink()
    path.mkdir()


DAMAGES = [
    empty,
    one_byte,
    cut_in_the_middle,
    cut_at_the_last_byte,
    zeros,
    zeros_after_the_start,
    a_text,
    only_both_ends,
    zeros_in_the_rows,
    another_table,
    columns_of_another_kind,
    a_folder,
]
each_damage = pytest.mark.parametrize("damage", DAMAGES, ids=[damage.__name__ for damage in DAMAGES])


def unreadable(path):
    """As without the permission, which a test of root's cannot take away: an OSError."""
    path.unlink()
    path.symlink_to(path)


def gone(path):
    path.unlink()


@pytest.fixture(scope="module")
def runtime(churn_package):
    return Runtime.load(churn_package)


class Writer:
    """A prediction log whose thread has ended: a test writes its parts."""

    def __init__(self, runtime, folder):
        self.runtime, self.folder, self.lost, self.damaged = runtime, folder, [], []
        schema = LogSchema(runtime.reader, "3", "blue")
        self.log = PredictionLog(folder, "blue", "3", schema, self.lost.append, self.damaged.append)
        self.log.close()

    def answered(self, number, rows=2):
        parsed = self.runtime.reader.of_records([GOOD | {"customer": f"c{number}"}] * rows)
        return AnsweredRequest(f"r{number}", NOW.timestamp() - 60 + number, parsed, np.full(rows, 0.5))

    def write(self, *numbers):
        """A part for each number, with two rows."""
        for number in numbers:
            self.log._write_part([self.answered(number)])

    def file(self, number):
        return self.folder / log_files.file_name(self.log._stem, number, number)


@pytest.fixture
def writer(runtime, tmp_path, monkeypatch):
    monkeypatch.setattr(prediction_log, "MERGE_COUNT", 4)
    return Writer(runtime, tmp_path / "log")


@pytest.fixture
def model(settings):
    return settings.model("churn")


def in_log(folder):
    """The requests whose rows are in the log, two rows each."""
    paths = log_files.listed(folder).files
    ids = sorted(row["request_id"] for path in paths for row in pq.read_table(path).to_pylist())
    assert ids == [i for i in sorted({*ids}) for _ in range(2)]
    return ids[::2]


def test_a_file_that_was_cut_off_anywhere_is_not_taken_for_whole(writer):
    """At each of its bytes."""
    writer.write(0)
    path = writer.file(0)
    assert log_files.fault(path) is None
    for size in reversed(range(path.stat().st_size)):
        os.truncate(path, size)
        assert log_files.fault(path), size


@each_damage
def test_the_writer_sets_a_damaged_part_aside_and_goes_on(writer, damage, caplog):
    """It is renamed, said once and counted with its rows; all other rows are merged, and later ones written."""
    writer.write(0, 1, 2)
    damage(writer.file(1))
    writer.write(3, 4, 5, 6, 7, 8)
    assert in_log(writer.folder) == ["r0", *(f"r{n}" for n in range(2, 9))]
    assert (writer.lost, writer.damaged) == ([2], [1])
    assert [path.name for path in writer.folder.glob("*.damaged")] == [writer.file(1).with_suffix(".damaged").name]
    assert [r.message for r in caplog.records if "set aside" in r.message and "its 2 rows are lost" in r.message]


@pytest.mark.parametrize("trouble", [unreadable, gone])
def test_the_writer_goes_on_beside_a_part_that_it_cannot_open(writer, trouble):
    """Nothing is known to be damaged: nothing is renamed or counted, and the other rows stay."""
    writer.write(0, 1, 2)
    trouble(writer.file(1))
    writer.write(3, 4, 5)
    assert in_log(writer.folder) == ["r0", "r2", "r3", "r4", "r5"]
    assert (writer.lost, writer.damaged, list(writer.folder.glob("*.damaged"))) == ([], [], [])


def test_a_damaged_merged_file_is_written_again_from_its_parts(writer):
    """The parts are deleted only when the file that replaces them is whole."""
    writer.write(0, 1, 2, 3)
    merged = writer.folder / log_files.file_name(writer.log._stem, 0, 3)
    empty(merged)
    assert in_log(writer.folder) == ["r0", "r1", "r2", "r3"]
    writer.write(4, 5, 6, 7)
    assert log_files.fault(merged) is None
    writer.write(*range(8, 20))
    assert in_log(writer.folder) == sorted(f"r{n}" for n in range(20))
    assert (writer.lost, writer.damaged) == ([], [1])


def test_the_request_whose_rows_cannot_be_written_is_the_only_one_that_is_lost(writer, monkeypatch, caplog):
    """Whatever error that is, a panic of the Parquet writer too; it is said once."""

    class Panic(BaseException):
        pass

    table = LogSchema.table

    def broken(self, requests):
        if any(request.request_id == "r5" for request in requests):
            raise Panic("called `Result::unwrap()` on an `Err` value")
        return table(self, requests)

    monkeypatch.setattr(LogSchema, "table", broken)
    writer.log._write_part([writer.answered(n) for n in range(9)])
    writer.log._write_part([writer.answered(5)])
    assert in_log(writer.folder) == [f"r{n}" for n in range(9) if n != 5]
    assert writer.lost == [2, 2]
    assert len([r for r in caplog.records if "cannot be written" in r.message]) == 1


def test_the_thread_outlives_every_error(runtime, tmp_path, monkeypatch):
    """A folder that is deleted under it, and an error in a merge: later rows are written."""
    monkeypatch.setattr(prediction_log, "FLUSH_S", 0.01)
    monkeypatch.setattr(prediction_log, "MERGE_COUNT", 2)
    monkeypatch.setattr(log_files, "together", lambda tables: 1 / 0)
    writer = Writer(runtime, tmp_path)
    log = PredictionLog(tmp_path / "log", "blue", "3", LogSchema(runtime.reader, "3", "blue"), writer.lost.append)
    written = threading.Event()
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (sync(file), written.set()))
    for number in range(5):
        written.clear()
        log.add(writer.answered(number))
        assert written.wait(60)
    assert log._thread.is_alive()
    log.close()
    assert in_log(tmp_path / "log") == [f"r{n}" for n in range(5)]


def test_file_and_folder_are_synced_and_no_request_waits_for_it(runtime, tmp_path, monkeypatch):
    """Only the log's own thread waits for the disk, however slow it is."""
    synced, release = [], threading.Event()

    def slow(file):
        synced.append((threading.current_thread().name, os.readlink(f"/proc/self/fd/{file}")))
        release.wait(60)

    monkeypatch.setattr(os, "fsync", slow)
    monkeypatch.setattr(prediction_log, "FLUSH_S", 0.01)
    writer = Writer(runtime, tmp_path)
    log = PredictionLog(tmp_path / "log", "blue", "3", LogSchema(runtime.reader, "3", "blue"), writer.lost.append)
    for number in range(100):
        log.add(writer.answered(number))
    release.set()
    log.close()
    assert {name for name, _ in synced} == {"prediction-log"}
    (_, aside), (_, folder) = synced[:2]
    assert aside.endswith(".part") and folder == str(tmp_path / "log")
    assert len(in_log(tmp_path / "log")) == 100


def aged(path):
    """As it was before the server was started."""
    at = path.stat().st_mtime - 2 * log_files.SETTLED_S
    os.utime(path, (at, at))


def test_what_an_earlier_process_left_damaged_is_set_aside_at_the_start(writer, runtime):
    """So is a part that a kill cut off; one that it wrote wholly gets its name. What is new may be a copy that goes on."""
    writer.write(0, 1, 2)
    empty(writer.file(0))
    writer.file(1).rename(writer.file(1).with_suffix(".part"))
    cut_off = writer.file(7).with_suffix(".part")
    cut_off.write_bytes(writer.file(2).read_bytes()[:300])
    for path in writer.folder.iterdir():
        aged(path)
    young = writer.file(8)
    empty(young)
    later = Writer(runtime, writer.folder)
    assert in_log(writer.folder) == ["r1", "r2"]
    assert sorted(path.name for path in writer.folder.glob("*.damaged")) == [
        writer.file(0).with_suffix(".damaged").name,
        cut_off.with_suffix(".damaged").name,
    ]
    assert (later.damaged, young.exists()) == ([1, 1], True)
    assert Writer(runtime, writer.folder).damaged == []


@pytest.mark.parametrize("damage", [*DAMAGES, unreadable], ids=lambda damage: damage.__name__)
def test_readers_leave_a_damaged_file_out_and_count_it(writer, model, damage):
    """The monitor, the newest requests and the rows of a step have all rows of the other files."""
    tail = _Tail(writer.folder, SLOT)
    writer.write(0, 1, 2)
    damage(writer.file(1))
    day = timedelta(days=1)
    log = live_quality.read_log(writer.folder, model, NOW - day, NOW + day)
    assert log.rows["key"].tolist() == ["c0", "c0", "c2", "c2"]
    assert (log.logged, log.damaged_files, live_quality.logged(writer.folder)) == (4, 1, 4)
    newest = newest_rows(writer.folder, NOW - day, 100)
    assert sorted(key for table in newest.tables for key in table["key"].to_pylist()) == ["c0", "c0", "c2", "c2"]
    assert newest.damaged_files == 1
    seen = [key for _ in range(2) for table in tail.rows() for key in table["key"].to_pylist()]
    assert seen == ["c0", "c0", "c2", "c2"]
    assert list(writer.folder.glob("*.damaged")) == []
    # The fourth part: now the writer merges them.
    writer.write(9)
    assert [key for table in tail.rows() for key in table["key"].to_pylist()] == ["c9", "c9"]


def test_a_step_begins_beside_a_damaged_file(writer):
    """What was logged before the step, damaged or not, is no evidence."""
    writer.write(0, 1, 2)
    empty(writer.file(1))
    tail = _Tail(writer.folder, SLOT)
    assert list(tail.rows()) == []
    writer.log._parts = 7
    writer.log._write_rows([writer.answered(7)])
    assert [key for table in tail.rows() for key in table["key"].to_pylist()] == ["c7", "c7"]


def test_the_rows_of_a_damaged_merged_file_are_read_from_its_parts_once(writer, model):
    """While these are still there."""
    tail = _Tail(writer.folder, SLOT)
    writer.write(0, 1)
    seen = [key for table in tail.rows() for key in table["key"].to_pylist()]
    writer.write(2, 3)
    zeros_in_the_rows(writer.folder / log_files.file_name(writer.log._stem, 0, 3))
    for _ in range(3):
        seen += [key for table in tail.rows() for key in table["key"].to_pylist()]
    assert seen == [f"c{n}" for n in range(4) for _ in range(2)]
    day = timedelta(days=1)
    log = live_quality.read_log(writer.folder, model, NOW - day, NOW + day)
    assert (len(log.rows), log.damaged_files) == (8, 1)
    newest = newest_rows(writer.folder, NOW - day, 100)
    assert (newest.rows, newest.damaged_files) == (8, 1)


def test_a_log_that_cannot_be_read_is_no_empty_log(tmp_path, model):
    """It is refused in one line: a check of no rows would look like no traffic."""
    (tmp_path / "log").symlink_to(tmp_path / "log")
    with pytest.raises(DataError, match="prediction log .*: cannot be read"):
        live_quality.read_log(tmp_path / "log", model, NOW, NOW)
    assert live_quality.read_log(tmp_path / "none", model, NOW, NOW).logged == 0


def test_status_and_a_drift_check_say_that_files_are_damaged(writer, tmp_path):
    """With their number and the name of one, wherever people look; a log that is whole is not mentioned."""
    home = tmp_path / "home"
    writer.folder.rename(tmp_path / "moved")
    folder = predictions_folder(home, "churn")
    folder.parent.mkdir(parents=True)
    (tmp_path / "moved").rename(folder)
    assert status.log_line(home, "churn") is None
    damaged = folder / log_files.file_name("blue-v3-1.1", 0, 0)
    empty(damaged)
    assert status.log_line(home, "churn") == (
        "damaged files of the prediction log: 1, whose rows no check sees; restore them from a backup, or delete them: "
        f"{damaged}"
    )
    log_files.set_aside(damaged)
    assert str(damaged.with_suffix(".damaged")) in status.log_line(home, "churn")
    limits = Monitor(cron="0 0 * * *", window_days=1)
    calm, quality = DriftVerdict("no verdict", "too few rows", 0, 0), live_quality.LiveQuality("rmse", None, 1.0, 0, 0)
    check = DriftCheck(calm, "3", NOW, NOW, quality, 0, 1, decide(calm, quality, limits), None)
    assert "damaged files of the prediction log: 1; their rows are left out" in tables.drift_check(check).splitlines()
    assert DriftChecked.read(check.as_dict()).damaged_log_files == 1


@pytest.mark.parametrize("stays", ["large", "unmerged"])
def test_no_merged_file_covers_one_that_stayed_as_it_was(writer, monkeypatch, stays):
    """A file that was too large to be merged again, or whose merge failed, is read as well: it is not hidden by its neighbours' name."""
    monkeypatch.setattr(prediction_log, "MERGE_COUNT", 2)
    together = log_files.together
    numbers = list(range(16))
    for number in numbers:
        # The merge of the third and the fourth part.
        if stays == "large":
            monkeypatch.setattr(prediction_log, "MAX_MERGED_BYTES", 0 if number == 3 else 2**24)
        elif number == 3:
            monkeypatch.setattr(log_files, "together", lambda tables: 1 / 0)
        else:
            monkeypatch.setattr(log_files, "together", together)
        writer.write(number)
    assert in_log(writer.folder) == sorted(f"r{n}" for n in numbers)
    assert len(log_files.listed(writer.folder).files) < 10
