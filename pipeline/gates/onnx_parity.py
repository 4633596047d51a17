"""Does the package answer as scikit-learn does, on every held-out row?

The rows come in through the same door as a user's request: as JSON, read by the package's schema, with the rules of the contract. A
model that would refuse the rows that it was tested on goes no further.

Some pipelines convert to ONNX without an error and answer wrongly: HistGradientBoosting with categorical_features is one.
So every model passes this gate, and a test of ours would not do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from pipeline.gates.base import PackagedModel, Verdict
from pipeline.serving.errors import BadRequest
from pipeline.serving.schema import Rows
from pipeline.training import parity, tasks
from pipeline.training.tasks import Answers

BLOCK_ROWS = 10_000


def verdict(packaged: PackagedModel) -> Verdict:
    """The observed difference is a share of the predictions' spread; see pipeline.training.parity."""
    tolerance = packaged.model.gates.parity_tolerance
    held_out = packaged.held_out if packaged.served is None else packaged.served
    expected = Answers.of(held_out, packaged.package.classes).values
    try:
        answers = np.concatenate([packaged.package.predict(rows) for rows in _requested(packaged)])
    except BadRequest as error:
        reason = f"the package refuses a row that it was tested on: {error}; correct gates.contract.columns"
        return Verdict("onnx_parity", False, math.inf, tolerance, reason)
    task = tasks.of(packaged.model.training)
    scale = task.scale(expected)
    difference = parity.difference(answers, expected, scale)
    of = "" if task.output != "number" else f" of the predictions' spread ({scale:g})"
    # An answer of NaN makes the difference NaN, which compares false, so the gate fails.
    return Verdict(
        "onnx_parity",
        difference <= tolerance,
        difference,
        tolerance,
        f"largest difference {difference:.1e}{of} over {len(held_out):,} rows, limit {tolerance:g} (gates.parity_tolerance)",
    )


def _requested(packaged: PackagedModel) -> Iterator[Rows]:
    """The held-out rows as requests. Raises BadRequest."""
    import orjson

    from pipeline.training.frames import records

    reader = packaged.package.reader
    for start in range(0, len(packaged.held_out), BLOCK_ROWS):
        block = records(packaged.held_out.iloc[start : start + BLOCK_ROWS], reader.schema)
        yield reader.of_records(orjson.loads(orjson.dumps(block)))
