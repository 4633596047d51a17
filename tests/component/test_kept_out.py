"""What scoring writes into the project is in no run's commit."""

import subprocess

import pytest

from pipeline.workspaces.kept_out import keep_out


def git(folder, *arguments):
    return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def project(tmp_path):
    """A project that is a folder of a larger repository."""
    git(tmp_path, "init", "-q")
    (tmp_path / "inner").mkdir()
    return tmp_path / "inner"


def test_scores_in_the_project_are_ignored_by_git_and_nothing_else_is(project):
    """The folder, and the file with what the database writes beside it; each has one line, however often it is said."""
    written = [project / "scores [1]", project / "s.db", project / "s.db.wal"]
    for _ in range(2):
        keep_out(project, written)
    written[0].mkdir()
    for file in (written[0] / "a.parquet", *written[1:], project / "s.db.txt"):
        file.write_text("x")
    assert git(project, "ls-files", "--others", "--exclude-standard").split("\n")[:-1] == ["s.db.txt"]
    lines = (project.parent / ".git" / "info" / "exclude").read_text().splitlines()
    assert [line for line in lines if line.startswith("/inner")] == [
        r"/inner/scores\ \[1\]",
        "/inner/s.db",
        "/inner/s.db.wal",
    ]


def test_a_worktree_keeps_out_what_its_repository_does(project):
    """Its `.git` is a file, and the list is that of the repository."""
    git(project.parent, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "--allow-empty", "-m", "start")
    other = project / "other"
    git(project.parent, "worktree", "add", "-q", "--detach", str(other))
    keep_out(other, [other / "scores"])
    (other / "scores").write_text("x")
    assert not git(other, "ls-files", "--others", "--exclude-standard")


def test_what_is_elsewhere_changes_nothing(project, tmp_path_factory):
    """Neither does a project that is in no repository."""
    before = (project.parent / ".git" / "info" / "exclude").read_text()
    keep_out(project, [tmp_path_factory.mktemp("away") / "scores"])
    assert (project.parent / ".git" / "info" / "exclude").read_text() == before
    outside = tmp_path_factory.mktemp("none")
    keep_out(outside, [outside / "scores"])
    assert not list(outside.iterdir())
