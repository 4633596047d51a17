"""A model whose own code ends the process that runs it, for rows with certain values."""

from __future__ import annotations

import json

from harness.project import GOOD

# The values of `spend`: the process aborts, takes 2 GB of memory, never ends, or only fails.
ABORTS, FILLS, HANGS, FAILS = 901.0, 902.0, 903.0, 904.0
# Appended to a copy of pipeline/serving/onnx_model.py, or run before the server's own code.
CODE = f"""
import os as _os
import time as _time
import numpy as np
from pipeline.serving.onnx_model import OnnxModel

_predict = OnnxModel.__call__


def _crashing(self, numbers, texts):
    spend = set(numbers[:, 0].tolist())
    if {ABORTS} in spend:
        _os.abort()
    if {FILLS} in spend:
        np.ones(2**28)
    if {HANGS} in spend:
        _time.sleep(3600)
    if {FAILS} in spend:
        raise ValueError("this row fails")
    return _predict(self, numbers, texts)


OnnxModel.__call__ = _crashing
"""


def body(spend: float) -> bytes:
    """A request with one row of that value."""
    return json.dumps({"dataframe_records": [{**GOOD, "spend": spend}]}).encode()
