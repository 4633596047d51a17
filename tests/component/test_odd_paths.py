"""A project in a folder with spaces, quotes and other letters works as in any other."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest
from dvc.repo import Repo

from harness.commands import said
from harness.project import BODY, CHURN, ROOT, make_project
from harness.router import router
from pipeline.errors import SettingsError
from pipeline.services.supervisor import read_procfile
from pipeline.settings.environment import Environment
from pipeline.workspaces import dvc_config

ODD = "it's #1 ü 50% $x [a] & `b`"


@pytest.fixture
def odd(tmp_path, monkeypatch, _cache_of_a_first_run) -> Path:
    """A project with the model `churn` in such a folder, as the working folder."""
    folder = make_project(tmp_path / ODD, {"churn": CHURN})
    shutil.copytree(_cache_of_a_first_run, folder / ".dvc" / "cache")
    monkeypatch.chdir(folder)
    return folder


def test_a_run_goes_from_source_to_a_live_answer_there(odd):
    """A run trains, registers and goes live there, and the slot answers through a router that works there."""
    with router(odd, odd / ".perennial") as at:
        addresses = {"PERENNIAL_ROUTER_URL": at.router, "PERENNIAL_ROUTER_API_URL": at.router_api}
        try:
            done = said(["retrain", "churn", "--deploy", "--json"], **addresses)
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)["outcome"] == "version 1 went live"
            assert httpx.post(f"{at.router}/churn/invocations", content=BODY).status_code == 200
        finally:
            said(["undeploy", "churn"], **addresses)
    # Nothing took the path for ended at its # or its space.
    assert [path for path in odd.parent.iterdir() if path.name.startswith("it")] == [odd]


@pytest.mark.parametrize("name", ["what?", 'it\'s "q"'])
def test_a_folder_that_databases_misread_is_one_line(tmp_path, name):
    """A question mark, which would put the databases into another folder, and both kinds of quotes are refused by name."""
    environment = Environment.read().at(tmp_path / name, tmp_path / name / ".perennial")
    with pytest.raises(SettingsError, match="has a question mark or both kinds of quotes"):
        print(environment.ledger_url)


def test_make_gives_such_a_folder_whole(odd):
    """`make down` names the demo's home as one word, whatever the folder is called."""
    shutil.copy(ROOT / "Makefile", odd / "Makefile")
    binaries = odd / ".venv" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "python").write_text('#!/bin/sh\nprintf "%s|%s\\n" "$PERENNIAL_HOME" "$*"\n')
    (binaries / "python").chmod(0o755)
    for name in ("requirements/main.txt", "requirements/dev.txt", "pyproject.toml", ".venv/.installed"):
        (odd / name).touch()
    os.utime(odd / ".venv" / ".installed", (2**31, 2**31))
    # Without what a `make` around the tests passes on: with that it prints the folders that it enters.
    alone = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    made = subprocess.run(["make", "down"], cwd=odd, capture_output=True, text=True, check=False, env=alone)
    assert made.stdout.splitlines() == [
        "|-m pipeline.services down",
        f"{odd}/.perennial/demo|-m pipeline.services down",
    ], made.stderr


def test_dvcs_own_configuration_of_the_machine_holds_such_a_path(odd):
    """`make setup` gives DVC a private site cache there, and leaves what else stands in config.local."""
    (odd / ".dvc" / "config.local").write_text("[core]\n    autostage = true\n")
    dvc_config.write_site_cache(odd)
    with Repo(str(odd)) as repo:
        core = repo.config["core"]
    assert (core["site_cache_dir"], core["autostage"]) == (str(odd / ".perennial" / "dvc-site"), True)
    assert (odd / ".perennial" / "dvc-site").stat().st_mode & 0o777 == 0o700


def test_the_services_commands_quote_their_variables():
    """Each variable in a line of the Procfile is within quotes, so that a path with a space is one word."""
    for command in read_procfile(ROOT / "Procfile").values():
        assert not re.search(r"\$", re.sub(r'"[^"]*"', "", command)), command
