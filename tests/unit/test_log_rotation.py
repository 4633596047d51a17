"""services.log at its limit, and the command of DVC that would remove all data."""

import sys

import pytest

from pipeline.services import log_rotation
from pipeline.workspaces import dvc_guard


@pytest.fixture
def home(tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text("keep: {services_log_mb: 2}\n")
    return tmp_path


@pytest.mark.parametrize(("size", "rotates"), [(1_900_000, False), (2_100_000, True)])
def test_a_log_over_its_limit_goes_on_in_an_empty_file(home, size, rotates):
    """A log over keep.services_log_mb is emptied, a writer that has it open goes on, and what was before is kept."""
    with (home / "services.log").open("a") as writer:
        writer.write("x" * (size - 2) + "!\n")
        writer.flush()
        assert log_rotation.Rotation(home, home).due() is rotates
        writer.write("after\n")
    assert (home / "services.log").read_text().endswith("after\n")
    assert ((home / "services.log").stat().st_size == len("after\n")) is rotates
    assert (home / "services.log.1").exists() is rotates
    if rotates:
        assert (home / "services.log.1").read_text().endswith("!\n")


def test_it_is_looked_at_once_a_minute(home):
    """Asked twice at once, it looks at the log once."""
    rotation = log_rotation.Rotation(home, home)
    assert not rotation.due()
    (home / "services.log").write_text("x" * 2_100_000)
    assert not rotation.due()


def test_a_broken_section_leaves_the_default(home):
    """With a section keep that cannot be read the log has the default limit."""
    (home / "params.yaml").write_text("keep: {services_log_mb: many}\n")
    assert log_rotation.limit_mb(home) == 50


@pytest.mark.parametrize(
    "arguments", [["gc", "-w", "--cloud", "-f"], ["-q", "gc", "-c", "-a"], ["--cd", "x", "gc", "-w"]]
)
def test_dvc_does_not_remove_what_only_mlflow_names(monkeypatch, capsys, arguments):
    """`dvc gc` is refused with one line that names `perennial prune`."""
    monkeypatch.setattr(sys, "argv", ["dvc", *arguments])
    assert dvc_guard.main() == 1
    assert "`perennial prune` removes" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["gc", "-w", "--dry"], ["add", "gc"], ["--cd", "gc", "status"]])
def test_every_other_command_is_dvcs_own(monkeypatch, arguments):
    """All other commands go to DVC as they are, a dry run of `dvc gc` too."""
    seen = []
    monkeypatch.setattr(sys, "argv", ["dvc", *arguments])
    monkeypatch.setattr("dvc.cli.main", lambda: seen.append(sys.argv[1:]) or 0)
    assert dvc_guard.main() == 0
    assert seen == [arguments]
