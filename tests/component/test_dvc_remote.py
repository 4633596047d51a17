"""A snapshot goes to the DVC remote, only what is new of it, and comes back from there: a folder, or S3 by URL."""

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from harness.commands import said
from harness.project import customers
from pipeline.context import Context
from pipeline.errors import DataError
from pipeline.ledger.events import DataLanded
from pipeline.runs import steps
from pipeline.settings.net import free_port
from pipeline.workspaces import dvc_remote, whole_files, workspace
from tests.support.s3 import s3  # noqa: F401

AS_OF = datetime(2024, 3, 1, tzinfo=UTC)


def land(run, as_of=AS_OF):
    """Takes a snapshot as a run does. Returns the run's workspace and the ledger's event."""
    context = Context.here()
    folder = steps.open_run(context, run, "churn", as_of, "a test")
    steps.run_stage(context, folder, "snapshot")
    return workspace.read(workspace.Path(folder)), context.ledger.events(DataLanded, run=run)[-1].body


def dvc(*arguments):
    subprocess.run([sys.executable, "-m", "dvc", *arguments], check=True, capture_output=True)


def stored(folder):
    return [f for f in (folder / "files" / "md5").rglob("*") if f.is_file()]


@pytest.fixture(params=["folder", "s3"])
def url(request, project, monkeypatch):
    """The project's remote, once as it comes and once on S3."""
    if request.param == "folder":
        return str(project / ".perennial" / "remote")
    for name, value in {"ID": "test", "KEY": "test"}.items():
        monkeypatch.setenv("AWS_ACCESS_KEY_ID" if name == "ID" else "AWS_SECRET_ACCESS_KEY", value)
    dvc("remote", "modify", "--local", "store", "url", f"s3://data/{project.parent.name}")
    dvc("remote", "modify", "--local", "store", "endpointurl", request.getfixturevalue("s3"))
    return f"s3://data/{project.parent.name}"


def test_only_what_is_new_is_pushed(project, url):
    """A run pushes only the partitions that are new or changed."""
    opened, first = land("one")
    assert first["remote"] == url
    assert len(first["landed"]) == first["partitions"] == 29
    assert first["pushed_files"] == 29 + 3, "the partitions, their schema, the list of them, and the counts"
    kept = sum(f.stat().st_size for f in opened.files.snapshot.iterdir())
    assert kept < first["pushed_bytes"] < kept + 10_000
    _, again = land("two")
    assert (again["data_version"], again["landed"]) == (first["data_version"], {})
    assert (again["pushed_files"], again["pushed_bytes"]) == (0, 0)
    _, day_later = land("three", AS_OF + timedelta(days=1))
    assert set(day_later["landed"]) == {"2024-02-28.parquet", "2024-02-29.parquet"}
    assert day_later["landed"]["2024-02-28.parquet"]["delta_rows"] == 59
    assert day_later["pushed_bytes"] < first["pushed_bytes"] / 5
    frame = customers()
    frame.loc[frame.customer == "c002500", "spend"] += 1
    frame.to_parquet(project / "customers" / "all.parquet")
    _, corrected = land("four")
    assert corrected["data_version"] != first["data_version"]
    assert [told["delta_rows"] for told in corrected["landed"].values()] == [0]
    assert corrected["pushed_files"] == 1 + 2 - 1, "that day and the list; the counts are the same"


def test_dvc_hashes_no_partition_a_second_time(project, monkeypatch):
    """DVC hashes no partition again that the snapshot stage has hashed."""
    import dvc_data.hashfile.hash as hashing

    land("one")
    read = []
    original = hashing.file_md5
    monkeypatch.setattr(hashing, "file_md5", lambda path, *a, **k: read.append(str(path)) or original(path, *a, **k))
    _, told = land("two", AS_OF + timedelta(days=1))
    assert len(told["landed"]) == 2
    assert read, "DVC did hash what else the stage made"
    assert [name for name in read if name.endswith(".parquet")] == []


def test_what_was_pushed_comes_back(project, url):
    """A data version comes back from the remote after its source was corrected and the cache lost."""
    opened, first = land("one")
    before = {f.name: f.read_bytes() for f in opened.files.snapshot.iterdir()}
    customers().assign(spend=3.0).to_parquet(project / "customers" / "all.parquet")
    land("two")
    shutil.rmtree(project / ".dvc" / "cache")
    shutil.rmtree(opened.files.snapshot)
    dvc_remote.fetch(opened.folder, opened.outs("snapshot"))
    assert {f.name: f.read_bytes() for f in opened.files.snapshot.iterdir()} == before
    assert whole_files.hash_of(opened.files.snapshot) == first["data_version"]
    assert {*dvc_remote.partitions(project, first["data_version"]), "schema.json"} == set(before)


def test_a_listing_is_read_from_the_remote_when_the_cache_is_gone(project):
    """The list of a data version's partitions is read from the remote when the cache is gone."""
    _, first = land("one")
    shutil.rmtree(project / ".dvc" / "cache")
    assert len(dvc_remote.partitions(project, first["data_version"])) == 29
    with pytest.raises(DataError, match="is neither in the DVC cache nor in the remote"):
        dvc_remote.partitions(project, "0" * 32 + ".dir")


def test_trace_says_in_one_line_that_the_remote_cannot_be_read(project):
    """`trace` with a remote that does not answer fails with one line that names the remote."""
    land("one")
    shutil.rmtree(project / ".dvc" / "cache")
    dvc("remote", "modify", "--local", "store", "url", "s3://data/x")
    dvc("remote", "modify", "--local", "store", "endpointurl", f"http://127.0.0.1:{free_port()}")
    dvc("remote", "modify", "--local", "store", "access_key_id", "a")
    dvc("remote", "modify", "--local", "store", "secret_access_key", "b")
    done = said(["trace", "2024-02-20"])
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("remote s3://data/x: the list of data version")
    assert last.endswith("check its address and its keys")


def test_a_remote_that_cannot_be_written_is_one_line_and_nothing_is_lost(project):
    """A remote that cannot be written fails the run before training, and the same run goes on when it is back."""
    blocked = project / "blocked"
    blocked.write_text("a file where the folder should be")
    dvc("remote", "modify", "--local", "store", "url", str(blocked / "remote"))
    with pytest.raises(DataError) as refused:
        land("one")
    assert str(refused.value).startswith(f"remote {blocked}/remote: ")
    assert "\n" not in str(refused.value)
    blocked.unlink()
    _, told = land("one")
    assert told["pushed_files"] == 32


def test_without_a_remote_a_run_goes_on_and_says_so(project, caplog):
    """Without a DVC remote a run goes on, prints that it pushed nothing, and a fetch is refused."""
    caplog.set_level("INFO", "pipeline")
    dvc("remote", "remove", "store")
    opened, told = land("one")
    assert (told["remote"], told["pushed_files"]) == (None, 0)
    assert "pushed nothing: no DVC remote" in caplog.text
    with pytest.raises(DataError, match="the project has none; add one with"):
        dvc_remote.fetch(opened.folder, opened.outs("snapshot"))


def test_the_runs_own_copy_of_the_remotes_keys_is_private(project, s3):  # noqa: F811
    """The workspace's copy of the remote's keys is readable by its owner only, and no event holds a key."""
    dvc("remote", "modify", "--local", "store", "url", "s3://data/x")
    dvc("remote", "modify", "--local", "store", "endpointurl", s3)
    dvc("remote", "modify", "--local", "store", "access_key_id", "a")
    dvc("remote", "modify", "--local", "store", "secret_access_key", "hush")
    opened, told = land("one")
    config = opened.folder / ".dvc" / "config.local"
    assert "hush" in config.read_text()
    assert config.stat().st_mode & 0o077 == 0
    assert told["remote"] == "s3://data/x"
    assert "hush" not in json.dumps(told)


def flip(path):
    """Changes a byte in the middle of a file, and keeps its size and its time."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_what_the_remote_lost_is_sent_again(project, url):
    """A run of the same data sends again what was deleted from the remote or cut short there, and says how much."""
    opened, first = land("one")
    with dvc_remote._repository(project) as repo:
        remote = repo.cloud.get_remote_odb()
        names = sorted(dvc_remote.partitions(project, first["data_version"]).values())
        remote.fs.remove(remote.oid_to_path(names[0]))
        remote.fs.remove(remote.oid_to_path(names[1]))
        remote.fs.pipe_file(remote.oid_to_path(names[1]), b"half")
        remote.fs.remove(remote.oid_to_path(first["data_version"]))
    _, again = land("two")
    assert (again["data_version"], again["pushed_files"]) == (first["data_version"], 3)
    shutil.rmtree(project / ".dvc" / "cache")
    shutil.rmtree(opened.files.snapshot)
    dvc_remote.fetch(opened.folder, opened.outs("snapshot"))
    assert whole_files.hash_of(opened.files.snapshot) == first["data_version"]


def test_a_flipped_byte_in_the_cache_is_not_landed_again(project):
    """A partition whose cached file changed, and kept its size and time, is written anew from the source."""
    opened, first = land("one")
    cached = project / ".dvc" / "cache" / "files" / "md5"
    md5 = dvc_remote.partitions(project, first["data_version"])["2024-02-20.parquet"]
    flip(cached / md5[:2] / md5[2:])
    other, again = land("two")
    assert again["data_version"] == first["data_version"] == whole_files.hash_of(other.files.snapshot)


def test_a_byte_flipped_between_two_stages_is_not_trained_on(project):
    """A stage refuses what is not what an earlier stage wrote; the same run started again makes it anew."""
    opened, first = land("one")
    steps.run_stage(Context.here(), str(opened.folder), "validate")
    flip(opened.files.snapshot / "2024-02-20.parquet")
    with pytest.raises(
        DataError, match=r"artifacts/churn/snapshot: has other bytes than those recorded as \w+\.dir; run it"
    ):
        steps.run_stage(Context.here(), str(opened.folder), "train")
    opened, again = land("one")
    assert again["data_version"] == first["data_version"]
    for stage in ("validate", "train"):
        steps.run_stage(Context.here(), str(opened.folder), stage)
    assert opened.files.model.is_file()


def test_a_remote_with_other_bytes_is_not_trusted(project):
    """A file of the remote with other bytes than its name is one line, and is not put in place."""
    opened, first = land("one")
    md5 = dvc_remote.partitions(project, first["data_version"])["2024-02-20.parquet"]
    flip(project / ".perennial" / "remote" / "files" / "md5" / md5[:2] / md5[2:])
    shutil.rmtree(project / ".dvc" / "cache")
    shutil.rmtree(opened.files.snapshot)
    with pytest.raises(DataError, match="1 of 32 files have other bytes than their hash says"):
        dvc_remote.fetch(opened.folder, opened.outs("snapshot"))
    assert not opened.files.snapshot.exists()
