"""Predicts for requests that arrive together in one run of the model.

Requests that one turn of the event loop has read share a run, up to a bound; no request waits for others to come. Requests that
arrive while the model runs are the next run. Many rows run in a thread, so that they delay no other request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import numpy as np

from pipeline.serving.runtime import Runtime
from pipeline.serving.schema import Rows

T = TypeVar("T")
# Gets the predictions, or the error of the run.
OnResult = Callable[[np.ndarray | Exception], None]
Pending = tuple[Rows, OnResult]
# A run of this many rows delays the requests that come meanwhile by some milliseconds; more rows run in the thread.
MAX_BATCH_ROWS = 512
# With a smaller speedup a shared run costs as much as single ones, and a request is faster alone.
MIN_BATCH_SPEEDUP = 1.5


class BatchRunner:
    """Predicts for the requests of one process; calls `on_run()` for each run of the model."""

    def __init__(self, runtime: Runtime, batching: str, on_run: Callable[[], None]) -> None:
        """`batching` is on, off or auto: on when a measurement at the start shows MIN_BATCH_SPEEDUP."""
        self._runtime, self._on_run = runtime, on_run
        self._batches = batching == "on" or (batching == "auto" and runtime.batch_speedup() >= MIN_BATCH_SPEEDUP)
        self._pending: list[Pending] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="many-rows")

    async def predict(self, rows: Rows) -> np.ndarray:
        """Predictions for the rows."""
        if len(rows) > MAX_BATCH_ROWS:
            self._on_run()
            return await self.in_thread(self._runtime.predict, rows)
        result: asyncio.Future[np.ndarray] = asyncio.get_running_loop().create_future()
        self.submit(rows, partial(_resolve, result))
        return await result

    def submit(self, rows: Rows, on_result: OnResult) -> None:
        """Predicts at most MAX_BATCH_ROWS rows and calls `on_result` before the event loop's next turn."""
        self._pending.append((rows, on_result))
        if not self._batches:
            self._run_pending()
        elif len(self._pending) == 1:
            asyncio.get_running_loop().call_soon(self._run_pending)

    async def in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        """Does long work in the one thread for it."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _run_pending(self) -> None:
        pending, self._pending = self._pending, []
        while pending:
            count = rows = 0
            while count < len(pending) and (count == 0 or rows + len(pending[count][0]) <= MAX_BATCH_ROWS):
                rows += len(pending[count][0])
                count += 1
            self._run(pending[:count])
            pending = pending[count:]

    def _run(self, batch: list[Pending]) -> None:
        self._on_run()
        try:
            predictions = self._runtime.predict(_joined([rows for rows, _ in batch]))
        except Exception as error:
            # Any error of the model is the result of every request in the batch, and the server goes on.
            for _, on_result in batch:
                on_result(error)
            return
        if len(batch) == 1:
            batch[0][1](predictions)
            return
        first = 0
        for rows, on_result in batch:
            on_result(predictions[first : first + len(rows)])
            first += len(rows)


def _resolve(future: asyncio.Future[np.ndarray], result: np.ndarray | Exception) -> None:
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)


def _joined(several: list[Rows]) -> Rows:
    if len(several) == 1:
        return several[0]
    numbers = np.concatenate([rows.numbers for rows in several])
    return Rows(numbers, np.concatenate([rows.texts for rows in several]), (), ())
