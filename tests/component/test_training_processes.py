"""Training in another process gives the same bytes."""

import os
import subprocess
import sys

import pytest

from harness.project import ROOT, churn_rows
from pipeline.training import fit, skops_file


@pytest.fixture
def churn(settings):
    return settings.model("churn")


def test_the_same_model_gives_the_same_onnx_in_another_process(churn, tmp_path, project):
    """Processes with different hash seeds convert a model to the same ONNX bytes."""
    skops_file.save(fit.fit(churn_rows(churn), churn), tmp_path / "model.skops")
    code = (
        "import sys, hashlib; from pathlib import Path; from pipeline.training import fit, skops_file, onnx_form; from pipeline.settings.models import load\n"
        "m = load(Path(sys.argv[1])).model('churn')\n"
        "print(hashlib.md5(onnx_form.onnx_bytes(skops_file.load(Path(sys.argv[2])), m.training)).hexdigest())"
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


SAME = """
import hashlib, sys, yaml
from harness.project import CHURN, churn_rows
from pipeline.settings.models import Model
from pipeline.training import fit, onnx_form, skops_file
for estimator, options in {"forest": {"n_estimators": 10}, "boosting": {"max_iter": 10}, "xgboost": {"n_estimators": 10, "subsample": 0.7},
                           "lightgbm": {"n_estimators": 10, "subsample": 0.7, "subsample_freq": 1}}.items():
    training = {**CHURN["training"], "estimator": estimator, "options": options, "calibration": "isotonic"}
    model = Model.model_validate({**CHURN, "training": training})
    fitted = fit.fit(churn_rows(model), model)
    import skops.io
    print(hashlib.sha256(skops_file.canonical(skops.io.dumps(fitted))).hexdigest())
    print(hashlib.sha256(onnx_form.onnx_bytes(fitted, model.training)).hexdigest())
"""


def test_neither_the_process_nor_its_threads_change_a_bit():
    """Two processes with one and three threads, and other seeds of Python's hashes, write the same files."""
    told = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", SAME],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": threads, "PYTHONHASHSEED": threads},
            stdout=subprocess.PIPE,
            text=True,
        )
        for threads in ("1", "3")
    ]
    one, three = (process.communicate()[0].split() for process in told)
    assert len(one) == 8 and one == three
