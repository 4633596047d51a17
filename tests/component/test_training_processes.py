"""Training in another process gives the same bytes."""

import os
import subprocess
import sys

import pytest

from harness.project import churn_rows
from pipeline.training import fit, skops_file


@pytest.fixture
def churn(settings):
    return settings.model("churn")


def test_the_same_model_gives_the_same_onnx_in_another_process(churn, tmp_path, project):
    """Processes with different hash seeds convert a model to the same ONNX bytes."""
    skops_file.save(fit.fit(churn_rows(churn), churn), tmp_path / "model.skops")
    code = (
        "import sys, hashlib; from pathlib import Path; from pipeline.training import fit, skops_file, package; from pipeline.settings.models import load\n"
        "m = load(Path(sys.argv[1])).model('churn')\n"
        "print(hashlib.md5(package.onnx_bytes(skops_file.load(Path(sys.argv[2])), m.training)).hexdigest())"
    )
    command = [sys.executable, "-c", code, str(project), str(tmp_path / "model.skops")]
    made = {
        subprocess.run(
            command, env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in "0123"
    }
    assert len(made) == 1


def test_the_same_data_gives_the_same_file_in_another_process(churn, tmp_path, project):
    """Two processes that train on the same rows write the same model file."""
    churn_rows(churn).to_parquet(tmp_path / "rows.parquet")
    code = (
        "import sys, pandas as pd; from pathlib import Path; from pipeline.training import fit, skops_file; from pipeline.settings.models import load\n"
        "m = load(Path(sys.argv[1])).model('churn')\n"
        "skops_file.save(fit.fit(pd.read_parquet(sys.argv[2]), m), Path(sys.argv[3]))"
    )
    for name in ("one", "two"):
        subprocess.run(
            [sys.executable, "-c", code, str(project), str(tmp_path / "rows.parquet"), str(tmp_path / name)], check=True
        )
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
