"""How long does one row take in the runtime that serves it?

The rows come as requests do, as JSON through the package's schema, one by one. The 99th percentile is measured in several rounds, of which
the best one counts: another process on this machine makes a round slower, and none faster. No network and no queue are in it; those
the rollout measures, by `rollout.limits.p99_ms`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import orjson

from pipeline.gates.base import PackagedModel, Verdict
from pipeline.serving.errors import BadRequest
from pipeline.serving.runtime import Runtime
from pipeline.training.frames import records

ROUNDS, ROWS, FEWEST_ROWS = 5, 200, 10
# A slow model is asked less often: all rounds take about so long.
BUDGET_S = 1.5


def verdict(packaged: PackagedModel) -> Verdict | None:
    """None where a row is refused, which is the gate onnx_parity's. The observed figure is in milliseconds."""
    limit = packaged.model.gates.export.p99_ms
    rows = packaged.held_out.iloc[:: -(-len(packaged.held_out) // ROWS)]
    bodies = [orjson.dumps(row) for row in records(rows, packaged.package.reader.schema)]
    try:
        rounds = measured(packaged.package, bodies)
    except BadRequest:
        return None
    best, slowest = float(np.min(rounds)), float(np.max(rounds))
    reason = (
        f"p99 of one row {best:.2f} ms in {packaged.package.platform}, the best of {len(rounds)} rounds (the slowest {slowest:.2f} ms), "
        f"at most {limit:g} ms (gates.export.p99_ms)"
    )
    return Verdict("one_row_latency", best <= limit, best, limit, reason)


def measured(package: Runtime, bodies: Sequence[bytes]) -> list[float]:
    """The 99th percentile of each round, in milliseconds. Raises BadRequest."""
    # The first ones load code and memory.
    first = [_took_s(package, body) for body in bodies[:FEWEST_ROWS]]
    usual = float(np.median(first))
    count = int(np.clip(BUDGET_S / ROUNDS / max(usual, 1e-9), FEWEST_ROWS, len(bodies)))
    return [float(np.percentile([_took_s(package, body) for body in bodies[:count]], 99) * 1000) for _ in range(ROUNDS)]


def _took_s(package: Runtime, body: bytes) -> float:
    start = time.perf_counter()
    package.predict(package.reader.of_records([orjson.loads(body)]))
    return time.perf_counter() - start
