"""What all tiers share: a tier for each folder, a clean environment for each test, and projects with the small model `churn`."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import hypothesis
import pytest

# skops looks for each function of this module in all modules, in the order in which they were imported: a second more after MLflow's.
import scipy.special  # noqa: F401
import yaml

from harness import commands
from harness.ledgers import ledger_of
from harness.project import CHURN, ROOT, churn_rows, customers, make_project, write_params
from pipeline.ledger.store import Ledger
from pipeline.registry.versions import Registry
from pipeline.settings.models import Model, Params, load
from pipeline.training.signing import SigningKey
from pipeline.workspaces import dvc_config, stage_server
from pipeline.workspaces.dvc_graph import Artifacts
from tests.support import side_by_side
from tests.support.once import made_once

# For each call httpx reads all the certificates of this machine, 70 ms of processor time; no test speaks TLS.
httpx._transports.default.create_ssl_context = functools.cache(httpx.create_ssl_context)
# Who says no time of his own waits five seconds for an answer; on a busy machine a router that tries a dead slot again needs more.
httpx._config.DEFAULT_TIMEOUT_CONFIG.read = httpx._config.DEFAULT_TIMEOUT_CONFIG.connect = 60.0

# The same examples each time, or a run fails by chance where others passed; $PERENNIAL_EXPLORE draws others.
hypothesis.settings.register_profile(
    "same", derandomize=not int(os.environ.get("PERENNIAL_EXPLORE", "0")), database=None
)
hypothesis.settings.load_profile("same")

TESTS = Path(__file__).parent
TIERS = ("unit", "component", "engine", "story")


def pytest_configure(config: pytest.Config) -> None:
    """Stages of all tests, and of all workers of pytest-xdist, are forked by one server, and commands that are asked for through
    harness/served.py; tests of that server have others too."""
    running = contextlib.ExitStack()
    running.enter_context(stage_server.running(at_once=False, libraries=commands.LIBRARIES))
    config.add_cleanup(running.close)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each test has the marker of its folder: tests/unit has `unit`. Those that take long come first."""
    side_by_side.longest_first(items)
    for item in items:
        item.add_marker(tier_of(item.path))


def pytest_collection_finish() -> None:
    """The garbage collector need not look through all modules and tests again and again."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Or DuckDB tells at the end of what was never collected."""
    gc.unfreeze()


def tier_of(path: Path) -> str:
    """The folder below tests/ that a test is in. Raises UsageError for a test in no tier's folder."""
    tier = path.relative_to(TESTS).parts[0]
    if tier not in TIERS:
        raise pytest.UsageError(f"{path}: is in no tier's folder; move it to one of {', '.join(TIERS)} in {TESTS}")
    return tier


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return side_by_side.scheduler(config, log)


@pytest.fixture(autouse=True)
def _clean_environment() -> Iterator[None]:
    """Before and after each test: MLflow, for one, sets its variable for good, and the next module's fixtures would see it."""
    _forget_environment()
    yield
    _forget_environment()


def _forget_environment() -> None:
    stay = ("PERENNIAL_REQUIRE", "PERENNIAL_EXPLORE", stage_server.VARIABLE)
    ours = [name for name in os.environ if name.startswith("PERENNIAL_") and name not in stay]
    for name in (*ours, "MLFLOW_TRACKING_URI", "AIRFLOW_HOME"):
        os.environ.pop(name, None)


@pytest.fixture(scope="session")
def churn_artifacts(tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    """What the stages from training on make of the model CHURN, made once; a test that changes a file changes a copy."""
    return Artifacts(made_once(tmp_path_factory, "churn", _train_churn), "churn")


def _train_churn(folder: Path) -> None:
    from pipeline.training import evaluate, fit, package, skops_file

    files, model = Artifacts(folder, "churn"), Model.model_validate(CHURN)
    files.folder.mkdir(parents=True)
    rows = churn_rows(model)
    skops_file.save(fit.fit(rows, model), files.model)
    evaluate.evaluate(model, rows, files.model, files.predictions, files.reference, files.metrics)
    package.build("churn", model, files.model, files.predictions, files.package, files.snapshot)


@pytest.fixture(scope="session")
def churn_package(churn_artifacts: Artifacts) -> Path:
    """The package of the model CHURN."""
    return churn_artifacts.package


@pytest.fixture(scope="session")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `plain_project` copies, written once."""
    folder = tmp_path_factory.mktemp("made") / "project"
    (folder / "customers").mkdir(parents=True)
    customers().to_parquet(folder / "customers" / "all.parquet")
    shutil.copy(ROOT / "dvc.yaml", folder / "dvc.yaml")
    whole = yaml.safe_load((ROOT / "params.yaml").read_text())
    write_params(folder, {**whole, "models": {"churn": CHURN}})
    return folder


@pytest.fixture
def plain_project(tmp_path: Path, _made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The settings and data of `project`, as the current folder, without its code; it is no git repository."""
    folder = shutil.copytree(_made, tmp_path / "project")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the model `churn`, as the current folder."""
    folder = make_project(tmp_path / "project", {"churn": CHURN})
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def _cache_of_a_first_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The DVC cache of a project in which `churn` was trained once."""

    def train(folder: Path) -> None:
        project = make_project(tmp_path_factory.mktemp("before") / "project", {"churn": CHURN})
        env = os.environ | {"PATH": f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"}
        subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=project, env=env, capture_output=True, check=True)
        shutil.copytree(project / ".dvc" / "cache", folder, dirs_exist_ok=True)

    return made_once(tmp_path_factory, "first-run", train)


@pytest.fixture(scope="session")
def _empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's own store with its tables and nothing in them, which take a second of processor time to make."""

    def make(folder: Path) -> None:
        Registry(folder, f"sqlite:///{folder}/mlflow/mlflow.db", SigningKey(folder)).client()

    made = made_once(tmp_path_factory, "empty-store", make)
    _forget_environment()
    return made / "mlflow"


@pytest.fixture
def stored(project: Path, _empty_store: Path) -> Path:
    """`project`, with MLflow's tables, which follow into its home as those of a moved project do."""
    shutil.copytree(_empty_store, project / ".perennial" / "mlflow")
    return project


@pytest.fixture
def trained_before(stored: Path, _cache_of_a_first_run: Path) -> Path:
    """`stored`, with the stages of its first run in DVC's run-cache: they are restored, which takes a tenth of the time."""
    shutil.copytree(_cache_of_a_first_run, stored / ".dvc" / "cache")
    return stored


@pytest.fixture(scope="session")
def _project_with_a_version(
    tmp_path_factory: pytest.TempPathFactory, _cache_of_a_first_run: Path, _empty_store: Path
) -> Path:
    """A project as `trained_before`, in which the run `one` has then registered version 1; without that run's workspace."""

    from tests.support.versions import retrain

    def make(folder: Path) -> None:
        project = make_project(folder / "project", {"churn": CHURN})
        shutil.copytree(_cache_of_a_first_run, project / ".dvc" / "cache")
        shutil.copytree(_empty_store, project / ".perennial" / "mlflow")
        with contextlib.chdir(project):
            assert retrain(project) == "1"
        # What names this folder: the run's worktree, and DVC's notes.
        shutil.rmtree(project / ".perennial" / "dvc-site")
        for workspace in (project / ".perennial" / "workspaces").iterdir():
            shutil.rmtree(workspace)
        subprocess.run(["git", "-C", str(project), "worktree", "prune"], check=True)

    made = made_once(tmp_path_factory, "version-one", make)
    _forget_environment()
    return made / "project"


@pytest.fixture
def version_one(project: Path, _project_with_a_version: Path) -> Path:
    """`project` after a first retrain: it is moved here, as a person may move a project, which takes less than to train it here."""
    shutil.rmtree(project)
    subprocess.run(["cp", "-a", str(_project_with_a_version), str(project)], check=True)
    dvc_config.write_site_cache(project)
    os.chdir(project)
    return project


@pytest.fixture
def settings(project: Path) -> Params:
    return load(project)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return ledger_of(tmp_path / "ledger-home")
