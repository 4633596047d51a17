"""Training in another process gives the same bytes."""

import os
import subprocess
import sys

from harness.project import ROOT

SAME = """
import hashlib, sys, yaml
from harness.project import CHURN, churn_rows
from pipeline.settings.models import Model
from pipeline.training import fit, onnx_form, skops_file
curve = {"calibration": "isotonic"}
for changed in ({}, {"estimator": "forest", "options": {"n_estimators": 10}, **curve}, {"options": {"max_iter": 10}, **curve},
                {"estimator": "xgboost", "options": {"n_estimators": 10, "subsample": 0.7}, **curve},
                {"estimator": "lightgbm", "options": {"n_estimators": 10, "subsample": 0.7, "subsample_freq": 1}, **curve}):
    training = {**CHURN["training"], **changed}
    model = Model.model_validate({**CHURN, "training": training})
    fitted = fit.fit(churn_rows(model), model)
    import skops.io
    print(hashlib.sha256(skops_file.canonical(skops.io.dumps(fitted))).hexdigest())
    print(hashlib.sha256(onnx_form.onnx_bytes(fitted, model.training)).hexdigest())
"""


def test_neither_the_process_nor_its_threads_change_a_bit():
    """Two processes with one and three threads, and with other seeds of Python's hashes, write the same model and the same ONNX."""
    # With 0 and 1 skl2onnx lists the operator sets in another order.
    told = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", SAME],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": threads, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for threads, seed in (("1", "0"), ("3", "1"))
    ]
    one, three = (process.communicate()[0].split() for process in told)
    assert len(one) == 10 and one == three
