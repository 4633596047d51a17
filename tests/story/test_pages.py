"""The pages of docs/, followed from an empty project by somebody who knows nothing else: one project, the pages in their order."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.environment import environment
from harness.project import ROOT, customers, make_project
from pipeline.services import control
from pipeline.services.environment import PORTS
from pipeline.settings.net import free_port
from tests.support.pages import blocks, follow

pytestmark = pytest.mark.timeout(1200)

# In an order in which a reader may take them: each goes on where the one before it ended.
PAGES = (
    "first-model",
    "approval",
    "slo",
    "notices",
    "backtest",
    "own-gate",
    "explanations",
    "own-source",
    "retraining",
    "drift",
    "batch-scoring",
    "edge",
    "accounts",
    "operating",
)
# Where the page on notices listens.
HOOK = 18765
# Its commands ask Airflow, so that the story with one follows it.
WITH_AIRFLOW = ("alerts",)


def test_every_command_of_the_pages_runs(tmp_path):
    """Each command of the pages does what the page says, from `perennial init` on a CSV to a source of one's own."""
    project = make_project(tmp_path / "project", {})
    _only_traffic(project)
    rows = customers().rename(columns={"left": "churned"})
    rows.assign(churned=rows.churned.map({1.0: "yes", 0.0: "no"})).to_csv(project / "customers.csv", index=False)
    ports = {str(port): str(free_port()) for port in (*PORTS.values(), HOOK)}
    home = project / ".perennial"
    env = {f"PERENNIAL_{name}_PORT": ports[str(port)] for name, port in PORTS.items()}
    env |= {"PERENNIAL_PROJECT": str(project), "PERENNIAL_HOME": str(home), "PYTHONPATH": ""}
    try:
        for page in PAGES:
            follow(ROOT / "docs" / f"{page}.md", project, env, ports)
    finally:
        with environment({**env, "MLFLOW_TRACKING_URI": None}):
            control.down(project, home, print)


def _only_traffic(project: Path) -> None:
    """No command of the pages asks Airflow or MLflow's server for anything, and these would take half of the processor time of them
    all. The other stories are about them."""
    procfile = project / "Procfile"
    lines = procfile.read_text().splitlines(keepends=True)
    procfile.write_text("".join(line for line in lines if line.startswith(("router:", "slots:", "rollouts:", "slo:"))))


def test_every_page_with_commands_is_followed():
    """A page with a block of commands is one of those that the test above follows, or the one of test_airflow_runs."""
    with_commands = {
        page.stem for page in (ROOT / "docs").glob("*.md") if any(b.language == "sh" for b in blocks(page))
    }
    assert with_commands <= {*PAGES, *WITH_AIRFLOW}, "add the page to PAGES"
