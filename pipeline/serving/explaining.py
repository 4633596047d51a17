"""Explains the requests of one process that ask for it, in a thread of their own: a row takes some thousand predictions.

What is asked for in one request and what waits is bounded, so that explanations never hold up predictions for long.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from pipeline.serving.errors import BadRequest, RequestRefused
from pipeline.serving.explain import Explainer, Explanations
from pipeline.serving.runtime import Runtime
from pipeline.serving.schema import Rows

MOST_ROWS = 10
MOST_WAITING = 8


class Explaining:
    """Explains for the requests of one process, as far as the package allows it."""

    def __init__(self, runtime: Runtime) -> None:
        self._explainer = Explainer.of(runtime)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="explain")
        self._waiting = 0

    def allowed(self, rows: Rows) -> Explainer:
        """What explains these rows. Raises RequestRefused where the model may not explain, or there are too many rows."""
        if self._explainer is None:
            raise BadRequest(
                "explain: this version gives no explanations; its model was trained without evaluation.explain"
            )
        if len(rows) > MOST_ROWS:
            raise RequestRefused(
                413, f"explain: at most {MOST_ROWS} rows of a request are explained; got {len(rows)}; split the request"
            )
        return self._explainer

    async def explain(self, rows: Rows, predictions: np.ndarray) -> Explanations:
        """The explanations of the rows' `predictions`. Raises RequestRefused, also where too many requests wait already."""
        explainer = self.allowed(rows)
        if self._waiting >= MOST_WAITING:
            raise RequestRefused(
                429, f"explain: {MOST_WAITING} requests for explanations wait already; try again later"
            )
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, explainer.explain, rows, predictions)
        finally:
            self._waiting -= 1
